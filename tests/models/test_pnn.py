"""PNN and its product layer against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.product_layer import PRODUCTS, ProductLayer
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


def signal_twin(layer, vectors):
    """l_z + l_p + b of each row and unit, by loops over fields."""
    batch, fields, dim = vectors.shape
    kernel = layer.kernel.numpy()
    linear = vectors.reshape(batch, -1) @ layer.linear.kernel.numpy() + layer.linear.bias.numpy()
    quadratic = np.zeros((batch, layer.units))
    for b, rows in enumerate(vectors):
        for n in range(layer.units):
            if layer.product == "full":
                weights = kernel[:, n].reshape(fields, fields)
                for i in range(fields):
                    for j in range(fields):
                        quadratic[b, n] += weights[i, j] * (rows[i] @ rows[j])
            elif layer.product == "factorised":
                weighted = sum(kernel[i, n] * rows[i] for i in range(fields))
                quadratic[b, n] = weighted @ weighted
            else:
                outer = sum(
                    np.outer(rows[i], rows[j]) for i in range(fields) for j in range(fields)
                )
                quadratic[b, n] = (kernel[:, n].reshape(dim, dim) * outer).sum()
    return linear + quadratic


@pytest.mark.parametrize("product", PRODUCTS)
def test_layer_equals_its_twin(product, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    layer = ProductLayer(5, product)
    layer.build(vectors.shape)
    randomize(layer)
    np.testing.assert_allclose(layer(vectors), signal_twin(layer, vectors), atol=1e-5)
    check_layer(ProductLayer(5, product), (vectors,), (3, 5), tmp_path)
    assert_gradient_matches_differences(
        lambda t: tf.reduce_sum(tf.square(layer(t))), vectors, step=1e-3
    )


def test_layer_by_hand():
    vectors = np.array([[[1.0, 2.0], [3.0, 4.0]]], "float32")
    inner, outer = ProductLayer(1, "full"), ProductLayer(1, "superposition")
    for layer in (inner, outer):
        layer.build(vectors.shape)
        layer.linear.kernel.assign(np.zeros((4, 1)))
    inner.kernel.assign([[1.0], [0.0], [2.0], [0.0]])
    outer.kernel.assign([[0.0], [1.0], [0.0], [0.0]])
    # <f_1, f_1> + 2 <f_2, f_1> = 5 + 2 * 11; f_S = (4, 6), entry (0, 1) of its square is 24.
    np.testing.assert_allclose(inner(vectors), [[27.0]])
    np.testing.assert_allclose(outer(vectors), [[24.0]])


def test_factorised_is_full_with_kernels_of_rank_one():
    vectors = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    full, factorised = ProductLayer(2, "full"), ProductLayer(2, "factorised")
    for layer in (full, factorised):
        layer.build(vectors.shape)
        randomize(layer)
    full.linear.set_weights(factorised.linear.get_weights())
    theta = factorised.kernel.numpy()
    full.kernel.assign(np.einsum("in,jn->ijn", theta, theta).reshape(16, 2))
    np.testing.assert_allclose(full(vectors), factorised(vectors), atol=1e-5)


def test_rejects_bad_arguments():
    with pytest.raises(ValueError, match="units must be at least 1, got 0"):
        ProductLayer(0)
    with pytest.raises(ValueError, match=r"product must be one of full, factorised.*got 'pairs'"):
        ProductLayer(3, "pairs")
    with pytest.raises(ValueError, match="hidden_units needs the product layer's size"):
        models.build("ipnn", toy_features(), hidden_units=[])


@pytest.mark.parametrize("name", ["ipnn", "opnn"])
def test_model_equals_its_twin(name):
    model = model_checks.small_model(name, toy_features())
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    signal = np.maximum(signal_twin(model.products, vectors), 0)
    np.testing.assert_allclose(model(inputs), mlp_twin(model.network, signal), atol=1e-5)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("ipnn", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
