"""AoAFFM and its ablations against plain loops, its Q layer and its limits."""

import numpy as np
import pytest
import tensorflow as tf

from models import Features, Field, build
from models.layers.interaction_attention import InteractionAttention
from models.layers.pairs import pairwise_products, present_pairs
from tests.models.test_afm import attention_twin, pooling_weights
from tests.models.test_ffm import field_aware_twin, products_twin
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)

FRAPPE = Features(5382, tuple(Field(f"f{i}") for i in range(10)))


def model_twin(model, inputs):
    """Equation 5 by loops over the pairs."""
    table = np.asarray(model.embedding.table)
    if model.field_aware:
        interactions = products_twin(
            field_aware_twin(table, inputs, model.features, model.embedding_dim)
        )
    else:
        vectors = pooled_twin(table, inputs, model.features)
        interactions = np.asarray(pairwise_products(vectors.astype("float32")))
    present = np.asarray(present_pairs(model.present(inputs)))
    attention = attention_twin(interactions, *pooling_weights(model.pooling), present)
    q = np.ones((interactions.shape[1], 1))
    if model.second_attention is not None:
        q = np.asarray(model.second_attention.weight)
    p = np.asarray(model.projection.kernel)[:, 0]
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    logits = []
    for b, rows in enumerate(interactions):
        pooled = sum(q[r] * attention[b, r] * u for r, u in enumerate(rows))
        logits.append(float(model.first_order.bias[0]) + linear[b].sum() + p @ pooled)
    return np.array(logits)


@pytest.mark.parametrize("name", ["aoaffm", "aoafm", "affm"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features(), embedding_dim=3, attention_dim=5)
    inputs = toy_inputs(model.features)
    inputs["values"][1, 0] = 0.0
    np.testing.assert_allclose(
        np.asarray(model(inputs))[:, 0], model_twin(model, inputs), atol=1e-5
    )


def test_one_q_per_dimension_equals_its_twin_and_adds_up():
    model = model_checks.small_model("aoaffm", toy_features(), interaction_attention="vector")
    assert tuple(model.second_attention.weight.shape) == (6, 4)
    inputs = toy_inputs(model.features)
    np.testing.assert_allclose(
        np.asarray(model(inputs))[:, 0], model_twin(model, inputs), atol=1e-5
    )
    model_checks.check_completeness(model)


def test_interaction_attention_by_hand(tmp_path):
    layer = InteractionAttention()
    layer.build((None, 2, 2))
    layer.weight.assign([[2.0], [-1.0]])
    scaled = layer(np.array([[[1.0, 2.0], [3.0, 4.0]]], "float32"))
    np.testing.assert_array_equal(scaled, [[[2.0, 4.0], [-3.0, -4.0]]])
    interactions = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
    for per_dimension in (False, True):
        layer = InteractionAttention(per_dimension)
        check_layer(layer, (interactions,), (3, 6, 4), tmp_path)
        randomize(layer)
        assert_gradient_matches_differences(
            lambda u, layer=layer: tf.reduce_sum(tf.square(layer(u))), interactions
        )


def test_q_starts_near_one():
    weight = np.asarray(build("aoafm", FRAPPE).second_attention.weight)
    assert weight.shape == (45, 1)
    assert 0 < np.abs(weight - 1).max() < 0.05


def test_aoafm_with_q_of_one_is_afm():
    afm = model_checks.small_model("afm", toy_features())
    aoafm = model_checks.small_model("aoafm", toy_features(), seed=1)
    aoafm.second_attention.weight.assign(np.ones((6, 1)))
    inputs = toy_inputs(afm.features)
    assert not np.allclose(aoafm(inputs), afm(inputs), atol=1e-3)
    for layer in ("first_order", "embedding", "pooling", "projection"):
        getattr(aoafm, layer).set_weights(getattr(afm, layer).get_weights())
    np.testing.assert_allclose(aoafm(inputs), afm(inputs), atol=1e-6)


def test_aoaffm_with_q_of_one_is_affm():
    affm = model_checks.small_model("affm", toy_features())
    aoaffm = model_checks.small_model("aoaffm", toy_features())
    aoaffm.second_attention.weight.assign(np.ones((6, 1)))
    for layer in ("first_order", "embedding", "pooling", "projection"):
        getattr(aoaffm, layer).set_weights(getattr(affm, layer).get_weights())
    inputs = toy_inputs(affm.features)
    np.testing.assert_allclose(aoaffm(inputs), affm(inputs), atol=1e-6)


def test_weights_of_the_explanation_are_q_times_attention():
    model = model_checks.small_model("aoafm", toy_features())
    inputs = toy_inputs(model.features)
    model.second_attention.weight.assign([[0.0], *[[2.0]] * 5])
    weights = np.asarray(model.explain(inputs)["order_2_weights"])
    np.testing.assert_array_equal(weights[:, 0, 1], 0)
    np.testing.assert_array_equal(weights, weights.transpose(0, 2, 1))
    attention = model.pooling.attention(
        model.interactions(inputs), present_pairs(model.present(inputs))
    )
    np.testing.assert_allclose(weights[:, 2, 3], 2 * np.asarray(attention)[:, 5], rtol=1e-6)


def test_both_regularizers_are_added_as_they_are():
    arguments = {"attention_l2": 0.5, "interaction_l2": 0.25}
    model = model_checks.small_model("aoaffm", toy_features(), **arguments)
    model(toy_inputs(model.features), training=True)
    expected = 0.5 * np.square(model.pooling.hidden.kernel).sum()
    expected += 0.25 * np.square(model.second_attention.weight).sum()
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-6)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("aoaffm", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))


def test_parameter_counts_of_the_paper():
    """Table 3, Frappe at K = t1 = 256: AoAFM 1.46M, which is that of one q per dimension."""
    arguments = {"embedding_dim": 256, "attention_dim": 256}
    # First order, V, attention network (W, b, h), p, Q.
    scalars = (5382 + 1) + 5382 * 256 + (256 * 256 + 2 * 256) + 256 + 45
    assert build("aoafm", FRAPPE, **arguments).count_params() == scalars == 1_449_524
    vectors = build("aoafm", FRAPPE, interaction_attention="vector", **arguments)
    assert vectors.count_params() == scalars + 45 * 255 == 1_460_999
    # AoAFFM, 13.84M there: ours leaves out each feature's vector for its own field.
    paper = scalars + 9 * 5382 * 256
    assert paper == 13_849_652
    assert build("aoaffm", FRAPPE, **arguments).count_params() == paper - 5382 * 256


def test_rejects_another_interaction_attention():
    with pytest.raises(ValueError, match="must be one of scalar, vector, none, got 'matrix'"):
        build("aoaffm", toy_features(), interaction_attention="matrix")
