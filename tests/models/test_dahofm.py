"""DA-HoFM against plain loops, its two layers, its entropy loss and its limits."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.attentional_interaction import AttentionalInteraction
from models.layers.attentional_sum import AttentionalSum
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def softmax(scores):
    exponents = np.exp(scores - scores.max())
    return exponents / exponents.sum()


def entropy(weights):
    return -sum(w * np.log(w) for w in weights if w > 0)


def interaction_twin(vectors, base, kernel, bias, temperature):
    """One row: attention (F, F) and next order (F, D), by loops over eq. 3-6."""
    fields = len(base)
    weights = np.zeros((fields, fields))
    out = np.zeros(base.shape)
    for i in range(fields):
        scores = [(vectors[i] * base[j]) @ kernel + bias for j in range(fields)]
        weights[i] = softmax(np.array(scores) / temperature)
        for j in range(fields):
            out[i] += weights[i, j] * (vectors[i] * base[j])
    return weights, out


def pooling_twin(vectors, kernel, bias):
    """One row: attention (F,) and pooled vector (D,), by loops over eq. 7-8."""
    weights = softmax(np.array([v @ kernel + bias for v in vectors]))
    return weights, sum(w * v for w, v in zip(weights, vectors, strict=True))


def toy_vectors(seed=0, batch=3, fields=4, dim=3):
    return np.random.default_rng(seed).normal(size=(batch, fields, dim)).astype("float32")


def attention_weights(layer):
    return np.asarray(layer.kernel)[:, 0], float(np.asarray(layer.bias)[0])


@pytest.mark.parametrize("kind", [AttentionalInteraction, AttentionalSum])
@pytest.mark.parametrize(
    "scores, expected",
    [
        (np.log([0.5, 0.25, 0.25]), 1.5 * np.log(2)),
        (np.log([1 / 3, 1 / 3, 1 / 3]), np.log(3)),
        ([1e4, 0.0, -1e4], 0.0),  # weights that underflow count 0, with a finite gradient
    ],
)
def test_entropy_by_hand(kind, scores, expected):
    layer = kind(entropy=2.0)
    base = tf.constant(np.reshape(scores, (1, 3, 1)), "float32")
    # Each field's scores are the embeddings themselves.
    tensors = (tf.ones_like(base), base) if kind is AttentionalInteraction else (base,)
    layer.build(*(t.shape for t in tensors))
    layer.set_weights([np.array([[1.0]]), np.array([0.0])])
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        layer(*tensors, training=True)
        loss = sum(layer.losses)
    np.testing.assert_allclose(loss, 2 * expected, rtol=1e-6)
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, tensors))


def test_interaction_by_hand():
    layer = AttentionalInteraction()
    layer.build((None, 2, 1), (None, 2, 1))
    layer.set_weights([np.array([[1.0]]), np.array([5.0])])
    base = np.array([[[1.0], [np.log(3)]]], "float32")
    # i = 0: v_0 = 0, so both scores are equal and the output is 0.
    # i = 1: v_1 = 1, scores (1, log 3), weights (e, 3) / (e + 3), output sum_j a_j u_j.
    vectors = np.array([[[0.0], [1.0]]], "float32")
    a = np.e / (np.e + 3)
    np.testing.assert_allclose(
        layer.attention(vectors, base), [[[0.5, 0.5], [a, 1 - a]]], rtol=1e-6
    )
    np.testing.assert_allclose(layer(vectors, base), [[[0], [a + (1 - a) * np.log(3)]]], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.8, 3.0])
def test_interaction_equals_its_twin(temperature, tmp_path):
    vectors, base = toy_vectors(0), toy_vectors(1)
    layer = AttentionalInteraction(temperature)
    layer.build(vectors.shape, base.shape)
    randomize(layer)
    for row in range(len(base)):
        weights, out = interaction_twin(
            vectors[row], base[row], *attention_weights(layer), temperature
        )
        np.testing.assert_allclose(layer.attention(vectors, base)[row], weights, atol=1e-6)
        np.testing.assert_allclose(layer(vectors, base)[row], out, atol=1e-5)
    check_layer(AttentionalInteraction(temperature), (vectors, base), (3, 4, 3), tmp_path)
    for moved in ((lambda v: layer(v, base)), (lambda v: layer(vectors, v))):
        assert_gradient_matches_differences(lambda v, f=moved: tf.reduce_sum(f(v) ** 2), vectors)


def test_sum_equals_its_twin(tmp_path):
    vectors = toy_vectors()
    layer = AttentionalSum()
    layer.build(vectors.shape)
    randomize(layer)
    for row in range(len(vectors)):
        weights, pooled = pooling_twin(vectors[row], *attention_weights(layer))
        np.testing.assert_allclose(layer.attention(vectors)[row], weights, atol=1e-6)
        np.testing.assert_allclose(layer(vectors)[row], pooled, atol=1e-5)
    check_layer(AttentionalSum(), (vectors,), (3, 3), tmp_path)
    assert_gradient_matches_differences(lambda v: tf.reduce_sum(layer(v) ** 2), vectors)


def model_twin(model, inputs):
    """Logits and the entropy loss per unit of lambda_2, row by row."""
    rows = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    flat = rows.reshape(len(rows), -1).astype("float32")
    deep = np.asarray(model.network(flat, training=False))
    logits, loss = [], 0.0
    for base, z0 in zip(rows, deep, strict=True):
        pooled, vectors = [z0], base
        for layer, interaction in enumerate(model.interactions):
            weights, vectors = interaction_twin(
                vectors, base, *attention_weights(interaction), model.temperature
            )
            loss += np.mean([entropy(row) for row in weights])
            if model.attentional_pooling:
                shares, z = pooling_twin(vectors, *attention_weights(model.poolings[layer]))
                loss += entropy(shares)
            else:
                z = vectors.sum(axis=0)
            pooled.append(z)
        kernel, bias = (np.asarray(w) for w in model.projection.weights)
        logits.append(np.concatenate(pooled) @ kernel[:, 0] + bias[0])
    return np.array(logits), loss / len(rows) / model.num_layers


@pytest.mark.parametrize("name", ["da-hofm", "sa-hofm", "da-hofm-lin"])
def test_model_equals_its_twin(name):
    arguments = {} if name == "da-hofm-lin" else {"hidden_units": [6]}
    model = model_checks.small_model(
        name, toy_features(), num_layers=3, entropy=0.25, batch_norm=False, **arguments
    )
    inputs = toy_inputs(model.features)
    logits, loss = model_twin(model, inputs)
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], logits, atol=1e-5)
    assert not model.losses, "the entropy is a training loss; validation stays a logloss"
    model(inputs, training=True)
    np.testing.assert_allclose(sum(model.losses), 0.25 * loss, rtol=1e-4)


def test_without_sparsity_there_is_no_loss():
    model = model_checks.small_model("da-hofm-ns", toy_features(), hidden_units=[6])
    model(toy_inputs(model.features), training=True)
    assert model.temperature == 0.8
    assert not model.losses


def test_l2_covers_the_dense_kernels():
    model = model_checks.small_model("da-hofm", toy_features(), hidden_units=[6], l2=0.5)
    kernels = [w for w in model.trainable_weights if w.path.endswith("kernel")]
    assert len(kernels) == 2 + 2 + 2 + 1
    expected = 0.5 * sum(np.square(w).sum() for w in kernels)
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-5)


def test_sum_pooling_is_attentional_pooling_with_unit_weights():
    """Reading 24: uniform pooling weights are 1 / F, so F times them is the sum."""
    features = toy_features()
    dual = model_checks.small_model("da-hofm", features, hidden_units=[6])
    single = model_checks.small_model("sa-hofm", features, hidden_units=[6])
    for pooling in dual.poolings:
        pooling.kernel.assign(np.zeros(pooling.kernel.shape))
    kept = [w for w in dual.weights if not any(w is v for p in dual.poolings for v in p.weights)]
    single.set_weights([w.numpy() for w in kept])
    scale = np.ones(single.projection.kernel.shape, "float32")
    scale[dual.embedding_dim :] = 1 / features.num_fields
    single.projection.kernel.assign(single.projection.kernel * scale)
    inputs = toy_inputs(features)
    np.testing.assert_allclose(single(inputs), dual(inputs), atol=1e-5)


def test_infinite_temperature_is_uniform():
    layer = AttentionalInteraction(temperature=1e9)
    vectors = toy_vectors()
    layer.build(vectors.shape, vectors.shape)
    randomize(layer)
    np.testing.assert_allclose(
        layer.attention(vectors, vectors), np.full((3, 4, 4), 0.25), rtol=1e-6
    )


def test_score_biases_get_no_gradient():
    """Reading 25: b_a and b_r cancel in their softmaxes."""
    model = model_checks.small_model("da-hofm", toy_features(), hidden_units=[6], entropy=0.5)
    randomize(model, scale=1.0)
    biases = [layer.bias for layer in [*model.interactions, *model.poolings]]
    kernels = [layer.kernel for layer in [*model.interactions, *model.poolings]]
    with tf.GradientTape() as tape:
        logits = model(toy_inputs(model.features), training=True)
        loss = tf.reduce_sum(logits**2) + sum(model.losses)
    gradients = tape.gradient(loss, [*biases, *kernels])
    for bias, kernel in zip(gradients[:4], gradients[4:], strict=True):
        largest = np.abs(kernel).max()
        assert largest > 1e-2
        assert abs(bias[0]) < 1e-4 * largest


def test_explanation_splits_every_explicit_order():
    model = model_checks.small_model("da-hofm", toy_features(), hidden_units=[6], num_layers=3)
    inputs = toy_inputs(model.features)
    parts = model.explain(inputs)
    explicit = sum(np.asarray(parts[f"order_{k}_contributions"]).sum((1, 2)) for k in (2, 3, 4))
    before = np.asarray(model(inputs))[:, 0]
    kernel = np.array(model.projection.kernel)
    kernel[model.embedding_dim :] = 0
    model.projection.kernel.assign(kernel)
    np.testing.assert_allclose(before - np.asarray(model(inputs))[:, 0], explicit, atol=1e-5)
    np.testing.assert_allclose(np.asarray(parts["order_4_weights"]).sum(-1), 1, rtol=1e-5)


def test_parameter_count():
    """Embeddings, L (d + 1) of each attention, the network with batch norm, (L + 1) d + 1."""
    features = toy_features()
    model = models.build("da-hofm", features, embedding_dim=3, hidden_units=[7])
    network = (4 * 3 * 7 + 7) + 2 * 7 + (7 * 3 + 3)
    expected = 40 * 3 + 2 * 2 * (3 + 1) + network + 3 * 3 + 1
    assert sum(w.numpy().size for w in model.trainable_weights) == expected


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        models.build("da-hofm", toy_features(), num_layers=0)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        models.build("da-hofm", toy_features(), temperature=0)
