"""AFN, AFN+ and their logarithmic layer against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.logarithmic_transformation import LogarithmicTransformation
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


def logarithmic_twin(layer, vectors):
    """(B, D, N), by loops over rows, dimensions and neurons."""
    batch, fields, dim = vectors.shape
    kernel = layer.kernel.numpy()
    out = np.zeros((batch, dim, layer.neurons))
    for b in range(batch):
        for d in range(dim):
            logs = np.log(np.maximum(np.abs(vectors[b, :, d]), layer.epsilon))
            logs = normalized(layer.log_norm, logs)
            for n in range(layer.neurons):
                out[b, d, n] = np.exp(sum(kernel[i, n] * logs[i] for i in range(fields)))
    return normalized(layer.exp_norm, out)


def normalized(norm, x):
    scale = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + 1e-5)
    return (x - norm.moving_mean.numpy()) * scale + norm.beta.numpy()


def test_layer_equals_its_twin(tmp_path):
    rng = np.random.default_rng(0)
    # Away from 0, where ln |e| has its pole and differences mean nothing.
    vectors = (rng.uniform(0.3, 1.5, (3, 4, 2)) * rng.choice([-1, 1], (3, 4, 2))).astype("float32")
    layer = LogarithmicTransformation(5)
    layer.build(vectors.shape)
    randomize(layer)
    np.testing.assert_allclose(layer(vectors), logarithmic_twin(layer, vectors), atol=1e-5)
    check_layer(LogarithmicTransformation(5), (vectors,), (3, 2, 5), tmp_path)
    assert_gradient_matches_differences(
        lambda t: tf.reduce_sum(tf.square(layer(t))), vectors, step=1e-3
    )


def test_neuron_is_a_product_of_powers():
    layer = LogarithmicTransformation(1)
    layer.build((None, 2, 1))
    layer.kernel.assign([[2.0], [-0.5]])
    unnormalized = np.sqrt(1 + 1e-5)
    for norm in (layer.log_norm, layer.exp_norm):
        norm.gamma.assign(np.full(norm.gamma.shape, unnormalized))
    # |-3|^2 * 4^(-1/2) = 4.5
    np.testing.assert_allclose(layer(np.array([[[-3.0], [4.0]]], "float32")), [[[4.5]]], rtol=1e-5)


def test_zero_counts_as_epsilon():
    layer = LogarithmicTransformation(2, epsilon=1e-3)
    layer.build((None, 2, 1))
    zero, least = (np.full((1, 2, 1), value, "float32") for value in (0.0, 1e-3))
    np.testing.assert_array_equal(layer(zero), layer(least))
    assert np.isfinite(layer(zero)).all()


def test_rejects_bad_arguments():
    with pytest.raises(ValueError, match="neurons must be at least 1, got 0"):
        LogarithmicTransformation(0)
    with pytest.raises(ValueError, match="epsilon must be positive, got 0"):
        LogarithmicTransformation(3, epsilon=0)


@pytest.mark.parametrize("name", ["afn", "afn+"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features())
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    products = logarithmic_twin(model.transformation, vectors).reshape(5, -1)
    expected = mlp_twin(model.network, products)
    if name == "afn+":
        own = pooled_twin(np.asarray(model.deep_embedding.table), inputs, model.features)
        deep = mlp_twin(model.deep_network, own.reshape(5, -1))
        ensemble = model.ensemble
        expected = np.concatenate([expected, deep], axis=1) @ ensemble.kernel.numpy()
        expected = expected + ensemble.bias.numpy()
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_mixed_precision_keeps_the_powers_exact():
    model = model_checks.small_model("afn", toy_features(), dtype="mixed_bfloat16")
    assert model.transformation(model.embedding(toy_inputs(model.features))).dtype == tf.float32
    assert model.network.compute_dtype == "bfloat16"


def test_batch_norm_follows_the_batch_in_training():
    model = model_checks.small_model("afn", toy_features())
    inputs = toy_inputs(model.features, batch=64)
    before = model.transformation.log_norm.moving_mean.numpy()
    assert not np.allclose(model(inputs, training=True), model(inputs, training=False))
    assert not np.array_equal(model.transformation.log_norm.moving_mean.numpy(), before)
