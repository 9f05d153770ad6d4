"""FwFM against plain loops, and its layer."""

import numpy as np
import tensorflow as tf

from models.layers.field_weighted_interaction import FieldWeightedInteraction
from models.layers.pairs import pair_indices
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def fwfm_twin(vectors, weights):
    """sum over i < j of r_ij <v_i, v_j>, by loops."""
    pairs = list(zip(*pair_indices(vectors.shape[1]), strict=True))
    return np.array(
        [
            sum(r * row[i] @ row[j] for r, (i, j) in zip(weights, pairs, strict=True))
            for row in vectors
        ]
    )


def test_layer_equals_its_twin(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 6, 3)).astype("float32")
    layer = FieldWeightedInteraction()
    layer.build(vectors.shape)
    randomize(layer)
    expected = fwfm_twin(vectors, np.asarray(layer.weight))
    np.testing.assert_allclose(np.asarray(layer(vectors))[:, 0], expected, atol=1e-5)
    check_layer(FieldWeightedInteraction(), (vectors,), (5, 1), tmp_path)
    assert_gradient_matches_differences(lambda v: tf.reduce_sum(tf.square(layer(v))), vectors[:2])
    assert_gradient_matches_differences(
        lambda r: _with_weight(layer, r, vectors[:2]), np.asarray(layer.weight)
    )


def test_layer_by_hand():
    layer = FieldWeightedInteraction()
    layer.build((None, 3, 1))
    layer.weight.assign([2.0, -1.0, 0.5])
    # 2 * (1*3) - 1 * (1*5) + 0.5 * (3*5) = 8.5
    np.testing.assert_allclose(layer(np.array([[[1.0], [3.0], [5.0]]], "float32")), [[8.5]])


def test_model_equals_its_twin():
    model = model_checks.small_model("fwfm", toy_features(), embedding_dim=3)
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    pairs = fwfm_twin(vectors, np.asarray(model.interaction.weight))
    expected = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2)) + pairs
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_weights_of_one_are_the_fm():
    fm = model_checks.small_model("fm", toy_features())
    fwfm = model_checks.small_model("fwfm", toy_features())
    fwfm.interaction.weight.assign(np.ones(6))
    inputs = toy_inputs(fm.features)
    for layer in ("first_order", "embedding"):
        getattr(fwfm, layer).set_weights(getattr(fm, layer).get_weights())
    np.testing.assert_allclose(fwfm(inputs), fm(inputs), atol=1e-6)
    weights = np.asarray(fwfm.explain(inputs)["order_2_weights"])
    np.testing.assert_array_equal(weights, np.broadcast_to(1 - np.eye(4), (5, 4, 4)))


def _with_weight(layer, weight, vectors):
    """The layer's output for another R, so that it can be differentiated by R."""
    outputs, _ = layer.stateless_call([weight], [], vectors)
    return tf.reduce_sum(tf.square(outputs))
