"""The stacked Transformer encoder and its block against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.transformer_encoder import TransformerEncoder
from tests.models.test_dahofm import softmax, toy_vectors
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def normalize(rows, norm):
    gamma, beta = (np.asarray(w) for w in norm.weights)
    mean, variance = rows.mean(axis=1, keepdims=True), rows.var(axis=1, keepdims=True)
    return (rows - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def encoder_twin(rows, layer):
    """One row: (F, D) through one post-norm block, by loops."""
    wq, bq, wk, bk, wv, bv, wo, bo = (np.asarray(w) for w in layer.attention.weights)
    attended = np.zeros(rows.shape) + bo
    for h in range(layer.num_heads):
        query, key, value = (rows @ w[:, h] + b[h] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
        for i in range(len(rows)):
            scores = np.array([query[i] @ k for k in key]) / np.sqrt(query.shape[1])
            mixed = sum(a * v for a, v in zip(softmax(scores), value, strict=True))
            attended[i] += mixed @ wo[h]
    rows = normalize(rows + attended, layer.norms[0])
    w1, b1, w2, b2 = (np.asarray(w) for w in (*layer.hidden.weights, *layer.output_step.weights))
    return normalize(rows + np.maximum(rows @ w1 + b1, 0) @ w2 + b2, layer.norms[1])


def test_encoder_equals_its_twin(tmp_path):
    vectors = toy_vectors(dim=4)
    layer = TransformerEncoder(num_heads=2, feedforward_dim=5)
    layer.build(vectors.shape)
    randomize(layer, scale=1.0)
    for row in range(len(vectors)):
        np.testing.assert_allclose(
            layer(vectors)[row], encoder_twin(vectors[row], layer), atol=1e-4
        )
    weights = np.asarray(layer.weights_by_head(vectors))
    assert weights.shape == (3, 2, 4, 4)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    check_layer(TransformerEncoder(num_heads=2), (vectors,), (3, 4, 4), tmp_path)
    randomize(layer)
    assert_gradient_matches_differences(
        lambda v: tf.reduce_sum(layer(v) ** 3), vectors, tolerance=5e-2, step=2e-3
    )


def test_model_equals_its_twin():
    model = model_checks.small_model("trans-enc", toy_features())
    inputs = toy_inputs(model.features)
    kernel, bias = (np.asarray(w) for w in model.projection.weights)
    expected = []
    for rows in pooled_twin(np.asarray(model.embedding.table), inputs, model.features):
        for encoder in model.encoders:
            rows = encoder_twin(rows, encoder)
        expected.append(rows.ravel() @ kernel[:, 0] + bias[0])
    assert len(model.encoders) == 3
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-4)


def test_parameter_count():
    """Q, K, V, O with biases, two dense steps of 4 D and D, two norms; then the flat head."""
    model = models.build("trans-enc", toy_features(), embedding_dim=4, num_layers=2)
    block = 4 * (4 * 4 + 4) + (4 * 16 + 16) + (16 * 4 + 4) + 2 * 2 * 4
    assert model.count_params() == 40 * 4 + 2 * block + (4 * 4 + 1)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("trans-enc", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        models.build("trans-enc", toy_features(), num_layers=0)
    with pytest.raises(ValueError, match="num_heads must be at least 1, got 0"):
        models.build("trans-enc", toy_features(), num_heads=0)
    with pytest.raises(ValueError, match="num_heads must divide the width 16, got 3"):
        models.build("trans-enc", toy_features(), num_heads=3)
