"""IFM and its ablations against plain loops, its layers, its sampling and its limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import Features, Field, build
from models.layers.field_importance import FieldImportance
from models.layers.interaction_aware import InteractionAware
from models.layers.pairs import pair_indices, pairwise_products, present_pairs
from tests.models.test_afm import attention_twin, pooling_weights
from tests.models.test_fm import fm_twin, pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_finite_gradients,
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)

FRAPPE = Features(5382, tuple(Field(f"f{i}") for i in range(10)))
VECTORS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
PRESENT = np.array([[True] * 4, [True, False, True, True], [False] * 3 + [True]])


def importance_twin(field):
    """F_r = D^T (U_i * U_j) for each pair, by loops; F itself where it is not factorized."""
    if field.factors is None:
        return np.asarray(field.raw)
    u, d = np.asarray(field.field), np.asarray(field.factor)
    return np.array(
        [
            [sum(u[i, k] * u[j, k] * d[k, e] for k in range(len(d))) for e in range(d.shape[1])]
            for i, j in zip(*pair_indices(len(u)), strict=True)
        ]
    )


def weighted_twin(layer, vectors, present):
    """T_ij F_ij * v_i * v_j of each pair, an aspect that is off being 1."""
    interactions = np.asarray(pairwise_products(vectors.astype("float32")))
    weights = np.ones(interactions.shape[:2])
    if layer.attention is not None:
        exists = np.asarray(present_pairs(present))
        weights = attention_twin(
            interactions, *pooling_weights(layer.attention), exists, layer.temperature
        )
    importance = 1.0 if layer.field is None else importance_twin(layer.field)
    return weights[..., None] * importance * interactions


def model_twin(model, inputs):
    """Equation 9."""
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    weighted = weighted_twin(model.interaction, vectors, np.asarray(model.present(inputs)))
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    return float(model.first_order.bias[0]) + linear.sum(axis=(1, 2)) + weighted.sum(axis=(1, 2))


def built(layer, vectors=VECTORS):
    layer.build(vectors.shape)
    randomize(layer)
    return layer


def test_field_importance_by_hand():
    layer = FieldImportance(3, factors=1)
    layer.build((None, 3, 2))
    layer.field.assign([[1.0], [2.0], [3.0]])
    layer.factor.assign([[10.0, -1.0]])
    expected = [[20.0, -2.0], [30.0, -3.0], [60.0, -6.0]]
    np.testing.assert_allclose(layer.importance(), expected)
    np.testing.assert_allclose(layer(np.ones((1, 3, 2), "float32")), [expected])


@pytest.mark.parametrize("factors", [3, None])
def test_field_importance_equals_its_twin(factors, tmp_path):
    interactions = np.random.default_rng(1).normal(size=(3, 6, 5)).astype("float32")
    check_layer(FieldImportance(4, factors), (interactions,), (3, 6, 5), tmp_path)
    layer = built(FieldImportance(4, factors), interactions)
    np.testing.assert_allclose(layer.importance(), importance_twin(layer), atol=1e-6)
    point = np.asarray(layer.trainable_variables[0])

    def loss(weight):
        others = layer.trainable_variables[1:]
        outputs, _ = layer.stateless_call([weight, *others], [], interactions)
        return tf.reduce_sum(tf.square(outputs))

    assert_gradient_matches_differences(loss, point)


def test_field_importance_starts_near_one():
    for factors in (8, None):
        layer = FieldImportance(10, factors)
        layer.build((None, 45, 16))
        importance = np.asarray(layer.importance())
        assert abs(importance.mean() - 1) < 0.15
        assert 0.02 < importance.std() < 0.4


@pytest.mark.parametrize(
    ("feature_aspect", "field_aspect"),
    [(True, "factorized"), (True, "full"), (True, "none"), (False, "factorized")],
)
def test_mechanism_equals_its_twin(feature_aspect, field_aspect, tmp_path):
    arguments = {
        "attention_dim": 3,
        "temperature": 2.0,
        "feature_aspect": feature_aspect,
        "field_aspect": field_aspect,
    }
    layer = built(InteractionAware(**arguments))
    expected = weighted_twin(layer, VECTORS, PRESENT)
    if not feature_aspect:
        expected *= np.asarray(present_pairs(PRESENT))[..., None]
    present_vectors = VECTORS * PRESENT[..., None]
    np.testing.assert_allclose(layer(present_vectors, present=PRESENT), expected, atol=1e-5)
    check_layer(InteractionAware(**arguments), (VECTORS,), (3, 6, 5), tmp_path)
    assert_gradient_matches_differences(
        lambda v: tf.reduce_sum(tf.square(layer(v, present=PRESENT))), VECTORS
    )


def test_mechanism_by_hand():
    layer = InteractionAware(attention_dim=1, temperature=1.0, field_aspect="full")
    layer.build((None, 3, 1))
    layer.attention.hidden.set_weights([np.array([[1.0]]), np.array([0.0])])
    layer.attention.score.set_weights([np.array([[1.0]])])
    layer.field.raw.assign([[1.0], [2.0], [-4.0]])
    # Products log 2, 0 and 0 give e^a' = 2, 1, 1 and T = 1/2, 1/4, 1/4.
    vectors = np.array([[[1.0], [np.log(2)], [0.0]]], "float32")
    np.testing.assert_allclose(layer(vectors)[0, :, 0], [0.5 * np.log(2), 0, 0], atol=1e-7)
    np.testing.assert_allclose(layer.pair_weights(vectors), [[0.5, 0.5, 1.0]], rtol=1e-6)


def test_the_attention_network_may_use_tanh():
    layer = built(InteractionAware(activation="tanh", temperature=1.0))
    interactions = np.asarray(pairwise_products(VECTORS))
    hidden, bias, score = pooling_weights(layer.attention)
    exponents = np.exp(np.tanh(interactions @ hidden + bias) @ score)
    weights = layer.attention.attention(interactions)
    np.testing.assert_allclose(weights, exponents / exponents.sum(axis=1)[:, None], atol=1e-6)


@pytest.mark.parametrize("name", ["ifm", "ifm-", "fa-ifm", "ia-ifm", "ifm-sampling"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features(), attention_dim=5, temperature=3.0)
    inputs = toy_inputs(model.features)
    inputs["values"][1, 0] = 0.0
    np.testing.assert_allclose(
        np.asarray(model(inputs))[:, 0], model_twin(model, inputs), atol=1e-5
    )


def copied(name, source, **arguments):
    """Another model of the family with the weights the two have in common."""
    model = model_checks.small_model(name, source.features, seed=1, **arguments)
    model.first_order.set_weights(source.first_order.get_weights())
    model.embedding.set_weights(source.embedding.get_weights())
    attention, other = model.interaction.attention, source.interaction.attention
    if attention is not None and other is not None:
        attention.set_weights(other.get_weights())
    if model.interaction.field_aspect == source.interaction.field_aspect != "none":
        model.interaction.field.set_weights(source.interaction.field.get_weights())
    return model


def test_field_aspect_of_one_is_fa_ifm():
    ifm = model_checks.small_model("ifm", toy_features(), field_factors=2)
    ifm.interaction.field.set_weights([np.ones((4, 2)), np.full((2, 4), 0.5)])
    inputs = toy_inputs(ifm.features)
    np.testing.assert_allclose(copied("fa-ifm", ifm)(inputs), ifm(inputs), atol=1e-6)


def test_infinite_temperature_is_ia_ifm_over_the_number_of_pairs():
    ifm = model_checks.small_model("ifm", toy_features(), temperature=1e7)
    ia_ifm = copied("ia-ifm", ifm)
    inputs = toy_inputs(ifm.features)
    weights = ifm.interaction.attention.attention(pairwise_products(ifm.embedding(inputs)))
    np.testing.assert_allclose(weights, np.full((5, 6), 1 / 6), rtol=1e-5)
    linear = ifm.first_order(inputs)
    np.testing.assert_allclose(6 * (ifm(inputs) - linear), ia_ifm(inputs) - linear, atol=1e-5)


def test_fa_ifm_at_temperature_one_is_afm_with_p_of_one():
    ifm = model_checks.small_model("fa-ifm", toy_features(), temperature=1.0)
    afm = model_checks.small_model("afm", toy_features(), seed=1)
    for layer in ("first_order", "embedding"):
        getattr(afm, layer).set_weights(getattr(ifm, layer).get_weights())
    afm.pooling.set_weights(ifm.interaction.attention.get_weights())
    afm.projection.kernel.assign(np.ones((4, 1)))
    inputs = toy_inputs(ifm.features)
    np.testing.assert_allclose(afm(inputs), ifm(inputs), atol=1e-6)


def test_unfactorized_with_the_factorized_product_is_ifm():
    ifm = model_checks.small_model("ifm", toy_features())
    raw = copied("ifm-", ifm)
    raw.interaction.field.raw.assign(ifm.interaction.field.importance())
    inputs = toy_inputs(ifm.features)
    np.testing.assert_allclose(raw(inputs), ifm(inputs), atol=1e-6)


def test_both_aspects_off_is_the_fm():
    model = model_checks.small_model("ia-ifm", toy_features(), field_aspect="none")
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    pairs = np.asarray(model(inputs) - model.first_order(inputs))[:, 0]
    np.testing.assert_allclose(pairs, fm_twin(vectors), atol=1e-5)


def test_a_batch_draws_its_share_of_the_pairs():
    layer = built(InteractionAware(sampling=0.5))
    assert len(set(np.asarray(layer.draw()[0]))) == 3
    counts = np.array([1.0, 2.0, 4.0], "float32")
    layer.draw = lambda: (np.array([4, 0, 2], "int32"), np.log(counts))
    weighted = layer(VECTORS, present=PRESENT, training=True)
    assert tuple(weighted.shape) == (3, 3, 5)
    # T is a softmax over the pairs drawn, as often as they count; F is that of the same pairs.
    interactions = np.asarray(pairwise_products(VECTORS))[:, [4, 0, 2]]
    exists = np.asarray(present_pairs(PRESENT))[:, [4, 0, 2]]
    weights = attention_twin(interactions, *pooling_weights(layer.attention), exists, 10.0)
    weights = weights * counts
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
    expected = weights[..., None] * importance_twin(layer.field)[[4, 0, 2]] * interactions
    np.testing.assert_allclose(weighted, expected, atol=1e-6)


def test_pairs_are_drawn_by_the_norm_of_their_importance():
    keras.utils.set_random_seed(0)
    layer = built(InteractionAware(field_aspect="full", sampling=1 / 6))
    norms = np.array([1.0, 2.0, 3.0, 4.0, 0.0, 0.0])
    layer.field.raw.assign(norms[:, None] * np.ones((6, 5)) / np.sqrt(5))
    draw = tf.function(layer.draw)
    counts = np.bincount([int(draw()[0][0]) for _ in range(2000)], minlength=6)
    np.testing.assert_allclose(counts / 2000, norms / 10, atol=0.04)
    np.testing.assert_array_equal(counts[4:], 0)


def test_a_drawn_pair_stands_for_those_that_were_not():
    keras.utils.set_random_seed(0)
    layer = built(InteractionAware(field_aspect="full", sampling=0.5), np.ones((4, 9, 5)))
    norms = np.exp(np.random.default_rng(0).normal(size=36)).astype("float32")
    layer.field.raw.assign(norms[:, None] * np.ones((36, 5)) / np.sqrt(5))
    draw = tf.function(layer.draw)
    draws = [[np.asarray(part) for part in draw()] for _ in range(2000)]
    often = np.bincount(np.concatenate([drawn for drawn, _ in draws]), minlength=36) / len(draws)
    for drawn, log_counts in draws[:20]:
        np.testing.assert_allclose(np.exp(-log_counts), often[drawn], atol=0.05)


def test_the_mean_over_draws_is_near_what_is_predicted():
    keras.utils.set_random_seed(1)
    vectors = np.random.default_rng(2).uniform(0.5, 1.0, (4, 9, 5)).astype("float32")
    layer = built(InteractionAware(field_aspect="full", sampling=0.5), vectors)
    norms = np.exp(np.random.default_rng(1).normal(size=36)).astype("float32")
    layer.field.raw.assign(norms[:, None] * np.ones((36, 5)))
    predicted = np.asarray(layer(vectors)).sum(axis=(1, 2))
    train = tf.function(lambda: tf.reduce_sum(layer(vectors, training=True), axis=(1, 2)))
    trained = np.mean([train() for _ in range(500)], axis=0)
    np.testing.assert_allclose(trained, predicted, rtol=0.03)


def test_sampling_is_on_while_fitting_and_off_when_predicting():
    model = model_checks.small_model("ifm-sampling", toy_features())
    everything = copied("ifm", model)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), everything(inputs))
    sampled = tf.function(lambda: model(inputs, training=True))
    outputs = {tuple(np.asarray(sampled())[:, 0]) for _ in range(8)}
    assert len(outputs) > 1, "each training step draws anew"
    assert_finite_gradients(model, (inputs,), training=True)
    model.compile("sgd", "mse")
    shapes = []
    model.combine, combine = lambda pairs, training: _noted(shapes, pairs, combine), model.combine
    model.fit(inputs, np.ones((5, 1)), batch_size=5, verbose=0)
    assert {shape[1] for shape in shapes} == {3}, "fit() trains on the pairs drawn only"


def _noted(shapes, pairs, combine):
    shapes.append(pairs.shape)
    return combine(pairs)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("ifm", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))


@pytest.mark.parametrize("name", ["ifm", "ifm-"])
def test_field_l2_is_added_as_it_is(name):
    model = model_checks.small_model(name, toy_features(), field_l2=0.5)
    model(toy_inputs(model.features), training=True)
    squares = sum(np.square(weight).sum() for weight in model.interaction.field.get_weights())
    np.testing.assert_allclose(sum(model.losses), 0.5 * squares, rtol=1e-6)


def test_parameter_counts_of_the_paper():
    """Section RQ3 at K = 256, K_F = 26; Table 2's 1.46M with an attention network of 256."""
    arguments = {"embedding_dim": 256, "attention_dim": 256, "field_factors": 26}
    ifm, raw = (build(name, FRAPPE, **arguments) for name in ("ifm", "ifm-"))
    assert raw.interaction.field.count_params() == 45 * 256 == 11_520
    # The paper's 6,370 is a misprint (reading 13).
    assert ifm.interaction.field.count_params() == 10 * 26 + 26 * 256 == 6_916
    attention = 256 * 256 + 2 * 256
    assert ifm.count_params() == 5382 * 257 + 1 + attention + 6_916 == 1_456_139


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"field_aspect": "half"}, "one of factorized, full, none, got 'half'"),
        ({"sampling": 0.0}, r"a share in \(0, 1\], got 0.0"),
        ({"sampling": 0.5, "feature_aspect": False}, "needs both"),
        ({"sampling": 0.5, "field_aspect": "none"}, "needs both"),
        ({"field_factors": 0}, "factors must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
    ],
)
def test_rejects_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build("ifm", toy_features(), **arguments)


def test_rejects_a_single_field():
    with pytest.raises(ValueError, match="num_fields must be at least 2, got 1"):
        FieldImportance(1)
