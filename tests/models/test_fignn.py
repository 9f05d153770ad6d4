"""Fi-GNN against plain loops and its layers."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.edge_attention import EdgeAttention
from models.layers.field_messages import FieldMessages
from tests.models.test_autoint import interacting_twin
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

FUXICTR = {
    "self_attention": False,
    "use_gru": False,
    "share_steps": False,
    "read_edges": "target",
    "all_node_weights": True,
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def edges_twin(rows, layer):
    """One row: what i reads from j (F, F), by loops."""
    kernel = np.asarray(layer.kernel)
    fields = len(rows)
    a = np.zeros((fields, fields))
    for i in range(fields):
        others = [j for j in range(fields) if j != i]
        scores = np.array([rows[i] @ kernel[:, 0] + rows[j] @ kernel[:, 1] for j in others])
        a[i, others] = softmax(np.where(scores > 0, scores, 0.2 * scores))
    return a if layer.read_edges == "target" else a.T


def messages_twin(graph, states, layer):
    says, hears, bias = (np.asarray(w) for w in layer.weights)
    out = np.zeros(states.shape)
    for i in range(len(states)):
        for j in range(len(states)):
            out[i] += graph[i, j] * (states[j] @ says[j] @ hears[i])
        out[i] += bias
    return out


def gru_twin(a, h, cell):
    """The paper's cell, h' = z candidate + (1 - z) h, with Keras's update weights negated."""
    kernel, recurrent, bias = (np.asarray(w) for w in cell.weights)
    size = len(h)
    (kz, kr, kh), (uz, ur, uh) = (np.split(matrix, 3, axis=1) for matrix in (kernel, recurrent))
    bz, br, bh = bias[:size], bias[size : 2 * size], bias[2 * size :]
    z = sigmoid(-(a @ kz + h @ uz + bz))
    r = sigmoid(a @ kr + h @ ur + br)
    return z * np.tanh(a @ kh + (r * h) @ uh + bh) + (1 - z) * h


def test_edges_by_hand():
    layer = EdgeAttention()
    layer.build((None, 3, 1))
    layer.set_weights([np.array([[0.0, 1.0]])])
    # Scores of targets are LeakyReLU(e_j) = (log 2, 0, log 6): source 0 gives (-, 1/7, 6/7).
    vectors = np.log(np.array([[[2.0], [1.0], [6.0]]], "float32"))
    read = [[0, 1 / 4, 2 / 3], [1 / 7, 0, 1 / 3], [6 / 7, 3 / 4, 0]]
    np.testing.assert_allclose(layer(vectors)[0], read, rtol=1e-5)
    target = EdgeAttention("target")
    target.build((None, 3, 1))
    target.set_weights(layer.get_weights())
    np.testing.assert_allclose(target(vectors)[0], np.transpose(read), rtol=1e-5)


@pytest.mark.parametrize("read_edges", ["source", "target"])
def test_edges_equal_their_twin(read_edges, tmp_path):
    vectors = toy_vectors()
    layer = EdgeAttention(read_edges)
    layer.build(vectors.shape)
    randomize(layer, scale=1.0)
    for row in range(len(vectors)):
        np.testing.assert_allclose(layer(vectors)[row], edges_twin(vectors[row], layer), atol=1e-6)
    check_layer(EdgeAttention(read_edges), (vectors,), (3, 4, 4), tmp_path)
    assert_gradient_matches_differences(lambda v: tf.reduce_sum(layer(v) ** 2), vectors, step=5e-3)


def test_messages_equal_their_twin(tmp_path):
    states = toy_vectors()
    graph = np.random.default_rng(1).random((3, 4, 4)).astype("float32")
    layer = FieldMessages()
    layer.build(graph.shape, states.shape)
    randomize(layer, scale=1.0)
    for row in range(len(states)):
        np.testing.assert_allclose(
            layer(graph, states)[row], messages_twin(graph[row], states[row], layer), atol=1e-4
        )
    check_layer(FieldMessages(), (graph, states), (3, 4, 3), tmp_path)
    assert_gradient_matches_differences(lambda h: tf.reduce_sum(layer(graph, h) ** 2), states)


def model_twin(model, inputs):
    rows = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    logits = []
    for base in rows:
        graph = edges_twin(base, model.edges)
        start = base if model.attention is None else interacting_twin(base, model.attention)
        states = start
        for step in range(model.num_layers):
            a = messages_twin(graph, states, model.messages[0 if model.share_steps else step])
            if model.gru is None:
                states = states + a + start
            else:
                pairs = zip(a, states, strict=True)
                states = np.array([gru_twin(x, h, model.gru) for x, h in pairs]) + start
        scores, *score_bias = (np.asarray(w) for w in model.node_score.weights)
        weights, *weight_bias = (np.asarray(w) for w in model.node_weight.weights)
        if model.all_node_weights:
            logits.append(sigmoid(states.ravel() @ weights) @ (states @ scores[:, 0]))
        else:
            y = states @ scores[:, 0] + score_bias[0]
            logits.append((states @ weights[:, 0] + weight_bias[0]) @ y)
    return np.array(logits)


@pytest.mark.parametrize("form", [{}, FUXICTR])
def test_model_equals_its_twin(form):
    model = model_checks.small_model("fignn", toy_features(), num_layers=2, **form)
    inputs = toy_inputs(model.features)
    expected = model_twin(model, inputs)
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_parameter_count():
    """Steps shared, the edges' 2 D, the attention's Q, K, V, one GRU cell, two MLPs with a bias."""
    model = models.build("fignn", toy_features(), embedding_dim=6, num_layers=3)
    steps = 2 * 4 * 6 * 6 + 6
    gru = 2 * 3 * 6 * 6 + 3 * 6
    trainable = sum(np.size(w) for w in model.trainable_weights)
    assert trainable == 40 * 6 + steps + 2 * 6 + 3 * 6 * 6 + gru + 2 * (6 + 1)


def test_leaderboard_form_passes_the_model_checks(tmp_path):
    model = model_checks.small_model("fignn", toy_features(), **FUXICTR)
    model_checks.check_shapes_and_gradients(model)
    model_checks.check_round_trips(model, tmp_path)


def test_explanation_is_the_graph():
    model = model_checks.small_model("fignn", toy_features())
    read = np.asarray(model.explain(toy_inputs(model.features))["order_2_weights"])
    np.testing.assert_allclose(read.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(read[:, range(4), range(4)], 0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        models.build("fignn", toy_features(), num_layers=0)
    with pytest.raises(ValueError, match="multiple of num_heads, got 16 and 3"):
        models.build("fignn", toy_features(), num_heads=3)
    with pytest.raises(ValueError, match="'source' or 'target', got 'both'"):
        models.build("fignn", toy_features(), read_edges="both")
