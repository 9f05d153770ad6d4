"""InterHAt against plain loops."""

import numpy as np
import pytest

import models
from models.layers.attention_pooling import AttentionPooling
from tests.models.test_dahofm import softmax
from tests.models.test_fm import pooled_twin
from tests.models.test_transenc import encoder_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def pooling_twin(rows, layer):
    """Attention (N,) and pooled vector (D,) of rows (N, D): c . ReLU(W x), no bias."""
    hidden, context = np.asarray(layer.hidden.kernel), np.asarray(layer.score.kernel)[:, 0]
    weights = softmax(np.array([np.maximum(x @ hidden, 0) @ context for x in rows]))
    return weights, sum(w * x for w, x in zip(weights, rows, strict=True))


def model_twin(model, inputs):
    """Logits and, per order above 1, the weights (B, F, F)."""
    logits, explained = [], {}
    for rows in pooled_twin(np.asarray(model.embedding.table), inputs, model.features):
        first = encoder_twin(rows, model.transformer)
        vectors, orders, attentions = first, [], []
        for k, pooling in enumerate(model.poolings, start=1):
            weights, pooled = pooling_twin(vectors, pooling)
            orders.append(pooled)
            attentions.append(weights)
            if k > 1:
                explained.setdefault(k, []).append(np.outer(weights, attentions[-2]))
            vectors = np.array([pooled * x1 + x for x1, x in zip(first, vectors, strict=True)])
        _, mixed = pooling_twin(np.array(orders), model.mixing)
        w1, b1, w2, b2 = (np.asarray(w) for w in model.network.weights)
        logits.append(np.maximum(mixed @ w1 + b1, 0) @ w2[:, 0] + b2[0])
    return np.array(logits), explained


def test_model_equals_its_twin():
    model = model_checks.small_model("interhat", toy_features(), hidden_units=[5])
    inputs = toy_inputs(model.features)
    logits, explained = model_twin(model, inputs)
    assert len(model.poolings) == 3
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], logits, atol=1e-5)
    parts = model.explain(inputs)
    for order, weights in explained.items():
        np.testing.assert_allclose(parts[f"order_{order}_weights"], weights, atol=1e-5)
        np.testing.assert_allclose(np.sum(weights, axis=(1, 2)), 1, rtol=1e-5)


def test_pooling_without_bias_keeps_no_bias():
    layer = AttentionPooling(5, use_bias=False)
    layer.build((None, 4, 3))
    assert [tuple(w.shape) for w in layer.weights] == [(3, 5), (5, 1)]
    assert AttentionPooling.from_config(layer.get_config()).use_bias is False


def test_parameter_count():
    """The Transformer block, 3 + 1 aggregations of D T + T, and the MLP D -> D / 2 -> 1."""
    model = models.build("interhat", toy_features(), embedding_dim=4, attention_dim=5)
    block = 4 * (4 * 4 + 4) + (4 * 16 + 16) + (16 * 4 + 4) + 2 * 2 * 4
    assert model.count_params() == 40 * 4 + block + 4 * (4 * 5 + 5) + (4 * 2 + 2) + (2 + 1)


def test_l2_covers_the_aggregations():
    model = model_checks.small_model("interhat", toy_features(), l2=0.5)
    kernels = [pooling.hidden.kernel for pooling in [*model.poolings, model.mixing]]
    expected = 0.5 * sum(np.square(kernel).sum() for kernel in kernels)
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_orders must be at least 2, got 1"):
        models.build("interhat", toy_features(), num_orders=1)
    with pytest.raises(ValueError, match="num_heads must divide the width 16, got 5"):
        models.build("interhat", toy_features(), num_heads=5)
