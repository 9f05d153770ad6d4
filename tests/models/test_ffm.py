"""FFM against plain loops, and the field-aware embedding layer."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.field_aware_embedding import FieldAwareEmbedding, field_aware_products
from models.layers.pairs import pair_indices
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    toy_features,
    toy_inputs,
)


def field_aware_twin(table, inputs, features, dim):
    """v[b, i, f]: the pooled vector of field i for field f, NaN where f is i itself."""
    fields = features.num_fields
    rows = pooled_twin(table, inputs, features)
    vectors = np.full((len(rows), fields, fields, dim), np.nan)
    for i in range(fields):
        targets = [f for f in range(fields) if f != i]
        for slot, f in enumerate(targets):
            vectors[:, i, f] = rows[:, i, slot * dim : (slot + 1) * dim]
    return vectors


def products_twin(vectors):
    """v_{i,f_j} * v_{j,f_i} of each pair, by loops."""
    pairs = zip(*pair_indices(vectors.shape[1]), strict=True)
    return np.stack([vectors[:, i, j] * vectors[:, j, i] for i, j in pairs], axis=1)


def test_field_aware_products_equal_their_twin(tmp_path):
    features, inputs = toy_features(), toy_inputs(toy_features())
    layer = FieldAwareEmbedding(features, 3, "random_normal")
    vectors = layer(inputs)
    twin = field_aware_twin(np.asarray(layer.table), inputs, features, 3)
    np.testing.assert_allclose(field_aware_products(vectors), products_twin(twin), atol=1e-6)
    check_layer(FieldAwareEmbedding(features, 3), (inputs,), (5, 4, 3, 3), tmp_path)


def test_field_aware_products_by_hand():
    # Three fields, D = 1: v_{0,1}, v_{0,2}; v_{1,0}, v_{1,2}; v_{2,0}, v_{2,1}.
    vectors = np.array([[[[2.0], [3.0]], [[5.0], [7.0]], [[11.0], [13.0]]]], "float32")
    expected = [[[2 * 5.0], [3 * 11.0], [7 * 13.0]]]
    np.testing.assert_array_equal(field_aware_products(vectors), expected)


def test_gradient_of_the_products():
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype("float32")
    assert_gradient_matches_differences(
        lambda v: tf.reduce_sum(tf.square(field_aware_products(v))), vectors
    )


def test_field_aware_embedding_rejects_bad_arguments():
    with pytest.raises(ValueError, match="at least two fields, got 1"):
        FieldAwareEmbedding(toy_features(fields=1), 3)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        FieldAwareEmbedding(toy_features(), 0)


def test_model_equals_its_twin():
    model = model_checks.small_model("ffm", toy_features(), embedding_dim=3)
    inputs = toy_inputs(model.features)
    table = np.asarray(model.embedding.table)
    products = products_twin(field_aware_twin(table, inputs, model.features, 3))
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    expected = (
        float(model.first_order.bias[0]) + linear.sum(axis=(1, 2)) + products.sum(axis=(1, 2))
    )
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_gradient_of_the_table_is_row_sparse():
    model = model_checks.small_model("ffm", toy_features())
    inputs = toy_inputs(model.features)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs))
    gradient = tape.gradient(loss, model.embedding.table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.values.shape == (inputs["ids"].size, 3 * 4)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("ffm", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
