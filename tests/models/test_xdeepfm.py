"""xDeepFM and its compressed interaction network against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.cin import CIN
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


def cin_twin(layer, vectors):
    """X^1 ... X^L, each (B, H_k, D), by loops over maps and fields."""
    batch, fields, dim = vectors.shape
    maps = [np.asarray(vectors, "float64")]
    for kernel, size in zip(layer.kernels, layer.units, strict=True):
        before = maps[-1]
        weights = kernel.numpy().reshape(before.shape[1], fields, size)
        following = np.zeros((batch, size, dim))
        for b in range(batch):
            for h in range(size):
                for i in range(before.shape[1]):
                    for j in range(fields):
                        following[b, h] += weights[i, j, h] * before[b, i] * vectors[b, j]
        maps.append(following)
    return maps[1:]


@pytest.mark.parametrize("units", [[3], [3, 4, 2]])
def test_cin_equals_its_twin(units, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    layer = CIN(units)
    layer.build(vectors.shape)
    randomize(layer)
    pooled = [maps.sum(axis=2) for maps in cin_twin(layer, vectors)]
    np.testing.assert_allclose(layer(vectors), np.concatenate(pooled, axis=1), rtol=1e-5, atol=1e-5)
    check_layer(CIN(units), (vectors,), (3, sum(units)), tmp_path)
    assert_gradient_matches_differences(
        lambda t: tf.reduce_sum(tf.square(layer(t))), vectors, step=1e-3
    )


def test_cin_by_hand():
    layer = CIN([1, 1])
    layer.build((None, 2, 1))
    # X^1 = x_0 x_1 (of i = 0, j = 1), X^2 = X^1 (2 x_0 + 3 x_1).
    layer.kernels[0].assign([[0.0], [1.0], [0.0], [0.0]])
    layer.kernels[1].assign([[2.0], [3.0]])
    np.testing.assert_allclose(layer(np.array([[[5.0], [7.0]]], "float32")), [[35.0, 1085.0]])


def test_cin_rejects_bad_sizes():
    with pytest.raises(ValueError, match=r"at least 1 map each, got \[\]"):
        CIN([])
    with pytest.raises(ValueError, match=r"at least 1 map each, got \[3, 0\]"):
        CIN([3, 0])


@pytest.mark.parametrize("name", ["cin", "xdeepfm"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features())
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    maps = cin_twin(model.interaction, vectors)
    pooled = np.concatenate([layer.sum(axis=2) for layer in maps], axis=1)
    expected = np.asarray(model.first_order(inputs)) + pooled @ model.projection.kernel.numpy()
    if name == "xdeepfm":
        expected = expected + mlp_twin(model.network, vectors.reshape(5, -1))
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_explanation_splits_each_order_over_the_pairs_its_products_begin_with():
    model = model_checks.small_model("cin", toy_features(), cin_units=[3, 2])
    inputs = toy_inputs(model.features)
    x = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    first, second = (kernel.numpy() for kernel in model.interaction.kernels)
    first, second = first.reshape(4, 4, 3), second.reshape(3, 4, 2)
    readout = model.projection.kernel.numpy()[:, 0]
    expected = {2: np.zeros((5, 4, 4)), 3: np.zeros((5, 4, 4))}
    for i in range(4):
        for j in range(4):
            inner = (x[:, i] * x[:, j]).sum(axis=1)
            expected[2][:, i, j] = inner * (first[i, j] @ readout[:3])
            for k in range(4):
                triple = (x[:, i] * x[:, j] * x[:, k]).sum(axis=1)
                expected[3][:, i, j] += triple * (first[i, j] @ second[:, k] @ readout[3:])
    explanation = model.explain(inputs)
    for order, contributions in expected.items():
        symmetric = 0.5 * (contributions + contributions.transpose(0, 2, 1))
        actual = explanation[f"order_{order}_contributions"]
        np.testing.assert_allclose(actual, symmetric, atol=1e-5)
    weights = first @ readout[:3]
    np.testing.assert_allclose(
        explanation["order_2_weights"][0], 0.5 * (weights + weights.T), atol=1e-6
    )


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("xdeepfm", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
