"""AutoInt against plain loops, its interacting layer, and AutoInt+."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.interacting_layer import InteractingLayer
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


def interacting_twin(rows, layer):
    """One row: updates (F, units), by loops over eq. 5-8 (or the program's form of them)."""

    def project(dense):
        out = rows @ np.asarray(dense.kernel)
        return np.maximum(out + np.asarray(dense.bias), 0) if layer.authors_program else out

    projected = [project(dense) for dense in layer.projections]
    fields, size = len(rows), layer.units // layer.num_heads
    out = np.zeros((fields, layer.units))
    for h in range(layer.num_heads):
        part = slice(h * size, (h + 1) * size)
        query, key, value = (p[:, part] for p in projected)
        for m in range(fields):
            scores = np.array([query[m] @ key[k] for k in range(fields)])
            if layer.scale or layer.authors_program:
                scores = scores / np.sqrt(size)
            out[m, part] = sum(a * v for a, v in zip(softmax(scores), value, strict=True))
    if layer.residual:
        # W_Res "in case of dimension mismatching" (eq. 8); the program has it always.
        as_it_is = rows.shape[1] == layer.units and not layer.authors_program
        out = out + (rows if as_it_is else project(layer.skip))
    out = np.maximum(out, 0)
    if layer.authors_program:
        gamma, beta = (np.asarray(w) for w in layer.norm.weights)
        centred = out - out.mean(axis=1, keepdims=True)
        out = centred / np.sqrt(out.var(axis=1, keepdims=True) + 1e-8) * gamma + beta
    return out


def test_interacting_layer_by_hand():
    layer = InteractingLayer(1)
    layer.build((None, 2, 1))
    layer.set_weights([np.array([[w]]) for w in (1.0, 1.0, -1.0)])
    # Fields 0 and log 3, as wide as the output. Field 0: scores (0, 0), weights 1/2: -(log 3) / 2.
    # Field log 3, call it c: scores (0, c^2), weight of itself a = e^(c^2) / (1 + e^(c^2)).
    c = np.log(3)
    a = np.exp(c**2) / (1 + np.exp(c**2))
    out = layer(np.array([[[0.0], [c]]], "float32"))
    np.testing.assert_allclose(out, [[[0], [-a * c + c]]], rtol=1e-5)


def test_interacting_layer_with_a_projected_residual_by_hand():
    layer = InteractingLayer(2)
    layer.build((None, 2, 1))
    layer.set_weights([np.array([w]) for w in ([1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [-1.0, 1.0])])
    # Scores as above; e~ is twice the weighted mean and 0, W_Res takes the field off and adds it.
    c = np.log(3)
    a = np.exp(c**2) / (1 + np.exp(c**2))
    out = layer(np.array([[[0.0], [c]]], "float32"))
    np.testing.assert_allclose(out, [[[c, 0], [2 * a * c - c, c]]], rtol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"residual": False, "scale": True},
        {"authors_program": True},
        {"num_heads": 6},  # vectors wider than a head
        {"num_heads": 6, "scale": True},
        {"units": 3, "num_heads": 1},  # as wide as the vectors
        {"units": 3, "num_heads": 3},
        {"units": 3, "num_heads": 1, "authors_program": True},
    ],
)
def test_interacting_layer_equals_its_twin(form, tmp_path):
    vectors = toy_vectors()
    form = {"units": 6, "num_heads": 2, **form}
    layer = InteractingLayer(**form)
    layer.build(vectors.shape)
    randomize(layer, scale=1.0)
    for row in range(len(vectors)):
        expected = interacting_twin(vectors[row], layer)
        np.testing.assert_allclose(layer(vectors)[row], expected, atol=1e-4)
    check_layer(InteractingLayer(**form), (vectors,), (3, 4, layer.units), tmp_path)
    randomize(layer)
    assert_gradient_matches_differences(
        lambda v: tf.reduce_sum(layer(v) ** 3), vectors, tolerance=3e-2, step=2e-3
    )


@pytest.mark.parametrize("name", ["autoint", "autoint+"])
def test_model_equals_its_twin(name):
    arguments = {"hidden_units": [5]} if name == "autoint+" else {}
    model = model_checks.small_model(
        name, toy_features(), attention_dim=6, num_layers=2, **arguments
    )
    inputs = toy_inputs(model.features)
    rows = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    kernel, bias = (np.asarray(w) for w in model.projection.weights)
    expected = []
    for vectors in rows:
        updated = vectors
        for layer in model.interactions:
            updated = interacting_twin(updated, layer)
        logit = updated.ravel() @ kernel[:, 0] + bias[0]
        if name == "autoint+":
            first, offset, last, last_offset = (np.asarray(w) for w in model.network.weights)
            hidden = np.maximum(vectors.ravel() @ first + offset, 0)
            logit += hidden @ last[:, 0] + last_offset[0]
        expected.append(logit)
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_authors_program_runs_and_explains():
    model = model_checks.small_model(
        "autoint", toy_features(), attention_dim=6, authors_program=True
    )
    model_checks.check_shapes_and_gradients(model)
    model_checks.check_explanation(model)
    weights = np.asarray(model.explain(toy_inputs(model.features))["order_3_weights"])
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_parameter_count():
    """Q, K, V of each layer, the first one's residual, the flat projection, and the network."""
    features = toy_features()
    model = models.build(
        "autoint+", features, embedding_dim=3, attention_dim=6, num_layers=2, hidden_units=[7]
    )
    layers = 4 * 3 * 6 + 3 * 6 * 6
    network = (4 * 3 * 7 + 7) + (7 + 1)
    assert model.count_params() == 40 * 3 + layers + (4 * 6 + 1) + network


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("autoint", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        models.build("autoint", toy_features(), num_layers=0)
    with pytest.raises(ValueError, match="multiple of num_heads, got 64 and 3"):
        models.build("autoint", toy_features(), num_heads=3)
