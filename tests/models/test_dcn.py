"""DCN and its cross network against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.cross_network import CrossNetwork
from tests.models.test_fm import pooled_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def cross_twin(layer, x):
    """x_0 ... x_L, by loops over rows and entries."""
    states = [np.asarray(x, "float64")]
    for kernel, bias in zip(layer.kernels, layer.biases, strict=True):
        kernel, bias = kernel.numpy()[:, 0], bias.numpy()
        following = np.zeros_like(states[0])
        for b, (first, last) in enumerate(zip(states[0], states[-1], strict=True)):
            scalar = sum(last[n] * kernel[n] for n in range(len(last)))
            for n in range(len(first)):
                following[b, n] = first[n] * scalar + bias[n] + last[n]
        states.append(following)
    return states


def test_cross_network_equals_its_twin(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    layer = CrossNetwork(3)
    layer.build(x.shape)
    randomize(layer)
    np.testing.assert_allclose(layer(x), cross_twin(layer, x)[-1], atol=1e-5)
    check_layer(CrossNetwork(3), (x,), (5, 6), tmp_path)
    assert_gradient_matches_differences(lambda t: tf.reduce_sum(tf.square(layer(t))), x, step=1e-3)


def test_cross_network_by_hand():
    layer = CrossNetwork(2)
    layer.build((None, 2))
    weights = {"kernel": np.array([[1.0], [2.0]]), "bias": np.array([0.5, 0.0])}
    for kernel, bias in zip(layer.kernels, layer.biases, strict=True):
        kernel.assign(weights["kernel"])
        bias.assign(weights["bias"])
    # x_0 = (1, 1): x_1 = 3 (1, 1) + (.5, 0) + (1, 1) = (4.5, 4); x_2 = 12.5 + .5 + 4.5, 12.5 + 4.
    np.testing.assert_allclose(layer(np.ones((1, 2), "float32")), [[17.5, 16.5]])


def test_rejects_no_layers():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        CrossNetwork(0)


@pytest.mark.parametrize("name", ["crossnet", "dcn"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features(), num_layers=2)
    inputs = toy_inputs(model.features)
    x = pooled_twin(np.asarray(model.embedding.table), inputs, model.features).reshape(5, -1)
    combined = cross_twin(model.cross, x)[-1]
    if name == "dcn":
        combined = np.concatenate([combined, mlp_twin(model.network, x)], axis=1)
    expected = combined @ model.score.kernel.numpy() + model.score.bias.numpy()
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_explanation_of_a_layer_is_field_of_x0_with_field_of_the_state():
    model = model_checks.small_model("dcn", toy_features(), num_layers=2)
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    states = cross_twin(model.cross, vectors.reshape(5, -1))
    readout = model.score.kernel.numpy()[:16, 0].reshape(4, 4)
    kernel = model.cross.kernels[1].numpy().reshape(4, 4)
    state = states[1].reshape(5, 4, 4)
    expected = np.zeros((5, 4, 4))
    for b in range(5):
        for i in range(4):
            for j in range(4):
                expected[b, i, j] = (vectors[b, i] @ readout[i]) * (state[b, j] @ kernel[j])
    explanation = model.explain(inputs)
    np.testing.assert_allclose(explanation["order_3_contributions"], expected, atol=1e-5)
    norms = [np.linalg.norm(np.outer(np.ones(4), kernel[j])) for j in range(4)]
    np.testing.assert_allclose(explanation["order_3_weights"][0, 0], norms, rtol=1e-5)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("dcn", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
