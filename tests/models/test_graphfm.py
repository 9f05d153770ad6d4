"""GraphFM against plain loops, its layers, the authors' program and its limits."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.graphfm import neighbourhoods
from models.layers.interaction_aggregation import InteractionAggregation
from models.layers.interaction_selection import (
    InteractionSelection,
    _places_by_distance,
    largest,
)
from models.layers.program_aggregation import ProgramAggregation
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


def selection_twin(rows, layer):
    """One row: p (F, F) with zeros, and the kept fields, by loops over eq. 7-9."""
    hidden, bias, score, score_bias = (np.asarray(w) for w in layer.weights)
    fields = len(rows)
    edges, kept = np.zeros((fields, fields)), np.zeros((fields, fields), bool)
    for i in range(fields):
        p = np.zeros(fields)
        for j in range(fields):
            activation = np.maximum((rows[i] * rows[j]) @ hidden + bias, 0)
            p[j] = 1 / (1 + np.exp(-(activation @ score[:, 0] + score_bias[0])))
        for j in sorted(range(fields), key=lambda j, p=p: (-p[j], j))[: layer.neighbours]:
            edges[i, j], kept[i, j] = p[j], True
    return edges, kept


def aggregation_twin(rows, layer, edges, kept):
    """One row: updates (F, units), by loops over eq. 10-13."""
    query, kernel = (np.asarray(w) for w in layer.weights)
    fields, size = len(rows), layer.units // layer.num_heads
    out = np.zeros((fields, layer.units))
    for i in range(fields):
        around = [j for j in range(fields) if kept[i, j]]
        for h in range(layer.num_heads):
            c = np.array([(rows[i] * rows[j]) @ query[:, h] for j in around])
            alpha = softmax(np.where(c > 0, c, 0.2 * c))
            total = np.zeros(size)
            for a, j in zip(alpha, around, strict=True):
                source = rows[i] * rows[j] if layer.interact else rows[j]
                total += a * edges[i, j] * (source @ kernel[:, h * size : (h + 1) * size])
            out[i, h * size : (h + 1) * size] = np.maximum(total, 0)
    return out


def program_twin(rows, layer, edges):
    """One row of the authors' program: a loop over target fields, as theirs."""
    query, query_bias, kernel, residual, residual_bias, scale, shift = (
        np.asarray(w) for w in layer.weights
    )
    out = np.zeros((len(rows), layer.units))
    for i, target in enumerate(rows):
        messages = rows * target
        scores = np.maximum(messages @ query + query_bias, 0) * edges[i][:, None]
        update = []
        for h in range(layer.num_heads):
            alpha = softmax(scores[:, h])
            update.append(alpha @ (messages @ kernel[i, :, h]))
        total = np.concatenate(update) + np.maximum(target @ residual[i] + residual_bias[i], 0)
        total = np.maximum(total, 0)
        normal = (total - total.mean()) / np.sqrt(total.var() + 1e-8)
        out[i] = normal * scale[i] + shift[i]
    return out


def test_largest_keeps_exactly_as_many_and_the_lower_index_first():
    scores = np.array([[1.0, 3, 3, 3, 0], [2, 2, 2, 2, 2], [5, 4, 3, 2, 1]], "float32")
    expected = [[0, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(largest(scores, 2), np.array(expected, bool))
    more = [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(largest(scores, 2, keep_ties=True), np.array(more, bool))
    assert np.asarray(largest(scores, 5)).all()
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 3, (50, 9)).astype("float32")
    for count in range(1, 9):
        kept = np.asarray(largest(coarse, count))
        for row, marks in zip(coarse, kept, strict=True):
            order = sorted(range(9), key=lambda j, row=row: (-row[j], j))
            assert set(np.flatnonzero(marks)) == set(order[:count])


def test_selection_by_hand():
    layer = InteractionSelection(2, units=1)
    layer.build((None, 3, 1))
    layer.set_weights([np.array([[1.0]]), np.array([0.0]), np.array([[1.0]]), np.array([0.0])])
    # e = (1, 2, -1): products of row 0 are (1, 2, -1), so p = sigmoid of (1, 2, 0).
    edges, kept = layer(np.array([[[1.0], [2.0], [-1.0]]], "float32"))
    sigmoid = 1 / (1 + np.exp(-np.array([1.0, 2.0])))
    np.testing.assert_allclose(edges[0, 0], [*sigmoid, 0], rtol=1e-6)
    np.testing.assert_array_equal(kept[0], [[1, 1, 0], [1, 1, 0], [1, 0, 1]])


@pytest.mark.parametrize("neighbours", [2, 4])
def test_selection_equals_its_twin(neighbours, tmp_path):
    vectors = toy_vectors()
    layer = InteractionSelection(neighbours, units=5)
    layer.build(vectors.shape)
    randomize(layer, scale=1.0)
    edges, kept = layer(vectors)
    for row in range(len(vectors)):
        expected_edges, expected_kept = selection_twin(vectors[row], layer)
        np.testing.assert_array_equal(kept[row], expected_kept)
        np.testing.assert_allclose(edges[row], expected_edges, atol=1e-5)
    full = np.asarray(layer.edges(vectors))
    np.testing.assert_array_equal(full, full.transpose(0, 2, 1))
    np.testing.assert_allclose(layer.edges(vectors, training=True), full, atol=1e-6)
    check_layer(InteractionSelection(neighbours, units=5), (vectors,), (3, 4, 4), tmp_path)
    for training in (True, False):
        assert_gradient_matches_differences(
            lambda v, training=training: tf.reduce_sum(layer.edges(v, training) ** 2), vectors
        )


@pytest.mark.parametrize("fields", [1, 2, 5, 6])
def test_every_pair_of_fields_is_met_once(fields):
    places = _places_by_distance(fields)
    np.testing.assert_array_equal(places, places.T)
    for first in range(fields):
        for second in range(fields):
            distance, start = divmod(int(places[first, second]), fields)
            assert distance <= fields // 2
            assert {start, (start + distance) % fields} == {first, second}


def test_selection_of_many_fields_equals_its_twin_in_training():
    vectors = toy_vectors(batch=1, fields=60)
    layer = InteractionSelection(7, units=6)
    layer.build(vectors.shape)
    randomize(layer, scale=1.0)
    edges, kept = layer(vectors, training=True)
    expected_edges, _ = selection_twin(vectors[0], layer)
    np.testing.assert_allclose(edges[0], expected_edges, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(kept).sum(-1), np.full((1, 60), 7))


@pytest.mark.parametrize("interact", [True, False])
def test_aggregation_equals_its_twin(interact, tmp_path):
    vectors = toy_vectors()
    selection = InteractionSelection(2, units=5)
    layer = InteractionAggregation(6, num_heads=2, interact=interact)
    selection.build(vectors.shape)
    layer.build(vectors.shape)
    randomize(selection, scale=1.0)
    randomize(layer, scale=1.0)
    edges, kept = (np.asarray(part) for part in selection(vectors))
    out = layer(vectors, edges, kept)
    for row in range(len(vectors)):
        expected = aggregation_twin(vectors[row], layer, edges[row], kept[row])
        np.testing.assert_allclose(out[row], expected, atol=1e-5)
    output = np.random.default_rng(1).normal(size=6).astype("float32")
    shares = np.asarray(layer.contributions(vectors, output, edges, kept))
    assert not shares[~kept].any()
    np.testing.assert_allclose(shares.sum((1, 2)), np.asarray(out).sum(axis=1) @ output, atol=1e-4)
    clone = InteractionAggregation(6, num_heads=2, interact=interact)
    check_layer(clone, (vectors, edges, kept), (3, 4, 6), tmp_path)
    assert_gradient_matches_differences(
        lambda v: tf.reduce_sum(layer(v, edges, kept) ** 2), vectors, step=1e-3
    )


def test_program_aggregation_equals_its_twin(tmp_path):
    vectors = toy_vectors()
    edges = np.random.default_rng(1).random((3, 4, 4)).astype("float32")
    edges[:, :, 1] = 0
    layer = ProgramAggregation(6, num_heads=2)
    layer.build(vectors.shape)
    randomize(layer, scale=1.0)
    for row in range(len(vectors)):
        expected = program_twin(vectors[row], layer, edges[row])
        np.testing.assert_allclose(layer(vectors, edges)[row], expected, atol=1e-4)
    assert (np.asarray(layer.weights_by_head(vectors, edges))[..., 1] > 0).all()
    check_layer(ProgramAggregation(6, num_heads=2), (vectors, edges), (3, 4, 6), tmp_path)
    assert_gradient_matches_differences(
        lambda v: tf.reduce_sum(layer(v, edges) ** 3), vectors, step=1e-3
    )


def model_twin(model, inputs):
    rows = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    kernel = np.asarray(model.projection.kernel)[:, 0]
    logits = []
    for vectors in rows:
        pooled = []
        for layer, aggregation in enumerate(model.aggregations):
            fields = len(vectors)
            edges, kept = np.ones((fields, fields)), np.ones((fields, fields), bool)
            if model.select:
                edges, kept = selection_twin(vectors, model.selections[layer])
            vectors = aggregation_twin(vectors, aggregation, edges, kept)
            pooled.append(vectors.mean(axis=0))
        logits.append(np.concatenate(pooled) @ kernel)
    return np.array(logits)


@pytest.mark.parametrize("name", ["graphfm", "graphfm-s", "graphfm-i", "graphfm-m"])
def test_model_equals_its_twin(name):
    # The last layer keeps all: in -I the fields grow alike, and a near tie may go either way.
    model = model_checks.small_model(name, toy_features(), units=6, neighbours=[3, 2, 4])
    randomize(model, scale=0.8)
    inputs = toy_inputs(model.features)
    assert model.num_heads == (1 if name == "graphfm-m" else 2)
    expected = model_twin(model, inputs)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_all_neighbours_and_unit_edges_is_the_ablation_without_selection():
    features = toy_features()
    model = model_checks.small_model("graphfm", features, neighbours=[4, 4, 4])
    ablation = model_checks.small_model("graphfm-s", features)
    for selection in model.selections:
        selection.score_kernel.assign(np.zeros(selection.score_kernel.shape))
        selection.score_bias.assign([100.0])
    chosen = {id(w) for selection in model.selections for w in selection.weights}
    ablation.set_weights([w.numpy() for w in model.weights if id(w) not in chosen])
    inputs = toy_inputs(features)
    np.testing.assert_allclose(model(inputs), ablation(inputs), atol=1e-6)


def test_selection_matters():
    model = model_checks.small_model("graphfm", toy_features(), neighbours=[4, 2, 1])
    weights = {k: np.asarray(v) for k, v in model.explain(toy_inputs(model.features)).items()}
    for order, kept in zip((2, 3, 4), (4, 2, 1), strict=True):
        matrix = weights[f"order_{order}_weights"]
        np.testing.assert_array_equal((matrix > 0).sum(-1), np.full((5, 4), kept))
        assert not weights[f"order_{order}_contributions"][matrix == 0].any()


def test_the_authors_program_runs_and_explains():
    model = model_checks.small_model("graphfm", toy_features(), units=6, authors_program=True)
    inputs = toy_inputs(model.features)
    rows = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    kernel, bias = (np.asarray(w) for w in model.projection.weights)
    expected = []
    for vectors in rows:
        pooled = []
        for selection, aggregation in zip(model.selections, model.aggregations, strict=True):
            edges, _ = selection_twin(vectors, selection)
            vectors = program_twin(vectors, aggregation, edges)
            pooled.append(vectors.mean(axis=0))
        expected.append(np.concatenate(pooled) @ kernel[:, 0] + bias[0])
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-4)
    model_checks.check_shapes_and_gradients(model)
    model_checks.check_explanation(model)
    assert "order_2_contributions" not in model.explanation_keys


@pytest.mark.parametrize(
    ("fields", "expected"), [(39, [39, 20, 5]), (7, [7, 4, 2]), (2, [2, 2, 2]), (1, [1, 1, 1])]
)
def test_default_neighbourhoods_suit_any_number_of_fields(fields, expected):
    assert neighbourhoods(fields, 3) == expected
    assert neighbourhoods(200, 5) == [200, 100, 25, 7, 2]


def test_parameter_count():
    """Per layer of width d: metric d T + 2 T + 1, H queries of d, W_a; then p."""
    model = models.build("graphfm", toy_features(), embedding_dim=3, units=6, num_layers=2)
    layers = sum((d * 16 + 2 * 16 + 1) + d * 2 + d * 6 for d in (3, 6))
    assert model.count_params() == 40 * 3 + layers + 2 * 6


def test_bad_arguments():
    def built(**arguments):
        return models.build("graphfm", toy_features(), **arguments)

    with pytest.raises(ValueError, match=r"3 numbers from 1 to 4, one for each layer, got \[4, 9"):
        built(neighbours=[4, 9, 1])
    with pytest.raises(ValueError, match="3 numbers from 1 to 4"):
        built(neighbours=[4, 2])
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        built(num_layers=0)
    with pytest.raises(ValueError, match="multiple of num_heads, got 64 and 3"):
        built(num_heads=3)
    with pytest.raises(ValueError, match="multiple of num_heads, got 64 and 3"):
        built(num_heads=3, authors_program=True)
    with pytest.raises(ValueError, match="authors_program has no ablations"):
        built(authors_program=True, interact=False)
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        InteractionSelection(0)
    with pytest.raises(ValueError, match="at least 1 unit, got 0"):
        built(metric_units=0)
    with pytest.raises(ValueError, match="at most the number of fields, 4, got 5"):
        InteractionSelection(5)(toy_vectors())
