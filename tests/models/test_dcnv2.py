"""DCNv2 and its cross network against plain loops, and the limit at DCN."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.cross_network import CrossNetwork
from models.layers.cross_network_v2 import CrossNetworkV2
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


def matrices(layer):
    """W_l of each layer; U V^T where the rank is low."""
    products = []
    for factors in layer.kernels:
        transposed = factors[0].numpy()
        if len(factors) == 2:
            transposed = transposed @ factors[1].numpy()
        products.append(transposed.T)
    return products


def cross_twin(layer, x):
    """x_0 ... x_L, by loops over rows and entries."""
    states = [np.asarray(x, "float64")]
    for matrix, bias in zip(matrices(layer), layer.biases, strict=True):
        following = np.zeros_like(states[0])
        for b, (first, last) in enumerate(zip(states[0], states[-1], strict=True)):
            for n in range(len(first)):
                inner = sum(matrix[n, m] * last[m] for m in range(len(last)))
                following[b, n] = first[n] * (inner + bias.numpy()[n]) + last[n]
        states.append(following)
    return states


@pytest.mark.parametrize("rank", [None, 2])
def test_cross_network_equals_its_twin(rank, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    layer = CrossNetworkV2(3, rank)
    layer.build(x.shape)
    randomize(layer)
    np.testing.assert_allclose(layer(x), cross_twin(layer, x)[-1], atol=1e-5)
    check_layer(CrossNetworkV2(3, rank), (x,), (5, 6), tmp_path)
    assert_gradient_matches_differences(lambda t: tf.reduce_sum(tf.square(layer(t))), x, step=1e-3)


def test_cross_network_by_hand():
    layer = CrossNetworkV2(1)
    layer.build((None, 2))
    layer.kernels[0][0].assign(np.array([[1.0, 2.0], [3.0, 4.0]]).T)
    layer.biases[0].assign([0.5, -0.5])
    # W x + b = (1 + 4 + .5, 3 + 8 - .5); times x_0 = (1, 2), plus x_0.
    np.testing.assert_allclose(layer(np.array([[1.0, 2.0]], "float32")), [[6.5, 23.0]])


def test_rank_one_with_u_of_ones_is_the_vector_form():
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    vector, matrix = CrossNetwork(3), CrossNetworkV2(3, rank=1)
    vector.build(x.shape)
    matrix.build(x.shape)
    randomize(vector)
    for layer, kernel in enumerate(vector.kernels):
        matrix.kernels[layer][0].assign(kernel)
        matrix.kernels[layer][1].assign(np.ones((1, 6)))
        vector.biases[layer].assign(np.zeros(6))
    np.testing.assert_allclose(matrix(x), vector(x), atol=1e-5)


def test_low_rank_saves_parameters():
    whole, low = CrossNetworkV2(2), CrossNetworkV2(2, rank=3)
    whole.build((None, 20))
    low.build((None, 20))
    assert whole.count_params() == 2 * (400 + 20)
    assert low.count_params() == 2 * (2 * 60 + 20)


def test_rejects_bad_arguments():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        CrossNetworkV2(0)
    with pytest.raises(ValueError, match=r"rank must be at least 1, or None .* got 0"):
        CrossNetworkV2(2, rank=0)
    with pytest.raises(ValueError, match="structure must be 'parallel' or 'stacked', got 'both'"):
        models.build("dcnv2", toy_features(), structure="both")


@pytest.mark.parametrize("name", ["crossnetv2", "dcnv2", "dcnv2-lowrank", "dcnv2-stacked"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features(), num_layers=2)
    inputs = toy_inputs(model.features)
    x = pooled_twin(np.asarray(model.embedding.table), inputs, model.features).reshape(5, -1)
    combined = cross_twin(model.cross, x)[-1]
    if name == "dcnv2-stacked":
        combined = mlp_twin(model.network, combined)
    elif name != "crossnetv2":
        combined = np.concatenate([combined, mlp_twin(model.network, x)], axis=1)
    expected = combined @ model.score.kernel.numpy() + model.score.bias.numpy()
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-5, atol=1e-5)


def test_explanation_of_a_layer_is_field_of_x0_with_field_of_the_state():
    model = model_checks.small_model("dcnv2", toy_features(), num_layers=2)
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    state = cross_twin(model.cross, vectors.reshape(5, -1))[1].reshape(5, 4, 4)
    readout = model.score.kernel.numpy()[:16, 0].reshape(4, 4)
    blocks = matrices(model.cross)[1].reshape(4, 4, 4, 4).transpose(0, 2, 1, 3)
    expected = np.zeros((5, 4, 4))
    for b in range(5):
        for i in range(4):
            for j in range(4):
                expected[b, i, j] = (readout[i] * vectors[b, i]) @ blocks[i, j] @ state[b, j]
    explanation = model.explain(inputs)
    np.testing.assert_allclose(explanation["order_3_contributions"], expected, atol=1e-5)
    norms = np.sqrt(np.square(blocks).sum(axis=(2, 3)))
    np.testing.assert_allclose(explanation["order_3_weights"][0], norms, rtol=1e-5)


def test_stacked_form_explains_weights_only():
    model = model_checks.small_model("dcnv2-stacked", toy_features(), num_layers=2)
    assert model.explanation_keys == ["logit", "order_2_weights", "order_3_weights"]
