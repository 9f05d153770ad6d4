"""AFM against plain loops, its pooling layer and its limits."""

import numpy as np
import pytest
import tensorflow as tf

from models import Features, Field, build
from models.layers.attention_pooling import AttentionPooling
from models.layers.masked_softmax import masked_softmax
from models.layers.pairs import (
    pair_indices,
    pairs_to_matrix,
    pairwise_products,
    present_pairs,
)
from tests.models.test_fm import fm_twin, pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def attention_twin(interactions, hidden, bias, score, present, temperature=1.0):
    """Attention weights of each pair, by loops."""
    weights = np.zeros(interactions.shape[:2])
    for b, rows in enumerate(interactions):
        exponents = {}
        for r, u in enumerate(rows):
            if present[b, r]:
                exponents[r] = np.exp(np.maximum(u @ hidden + bias, 0) @ score / temperature)
        for r, exponent in exponents.items():
            weights[b, r] = exponent / sum(exponents.values())
    return weights


def pooling_weights(layer):
    return (
        np.asarray(layer.hidden.kernel),
        np.asarray(layer.hidden.bias),
        np.asarray(layer.score.kernel)[:, 0],
    )


def test_pairs_enumerate_the_upper_triangle():
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    products = np.asarray(pairwise_products(vectors))
    for r, (i, j) in enumerate(zip(*pair_indices(4), strict=True)):
        np.testing.assert_allclose(products[:, r], vectors[:, i] * vectors[:, j], rtol=1e-6)
    present = np.array([[True, False, True, True]])
    expected = [[False, True, True, False, False, True]]
    np.testing.assert_array_equal(present_pairs(present), expected)


def test_pairs_to_matrix_is_symmetric():
    matrix = np.asarray(pairs_to_matrix(np.array([[1.0, 2.0, 3.0]], "float32"), 3))
    np.testing.assert_array_equal(matrix, [[[0, 1, 2], [1, 0, 3], [2, 3, 0]]])


def test_masked_softmax_by_hand():
    scores = np.log(np.array([[1.0, 3.0, 6.0]], "float32"))
    np.testing.assert_allclose(masked_softmax(scores), [[0.1, 0.3, 0.6]], rtol=1e-6)
    mask = np.array([[True, True, False]])
    np.testing.assert_allclose(masked_softmax(scores, mask), [[0.25, 0.75, 0]], rtol=1e-6)
    nothing = np.zeros((1, 3), bool)
    np.testing.assert_array_equal(masked_softmax(scores, nothing), np.zeros((1, 3)))
    huge = np.array([[1e8, -1e8, 0]], "float32")
    np.testing.assert_allclose(masked_softmax(huge, np.array([[False, True, True]])), [[0, 0, 1]])
    low = np.array([[-1e12, -1e12, 5]], "float32")
    np.testing.assert_array_equal(masked_softmax(low, mask), [[0.5, 0.5, 0]])


@pytest.mark.parametrize("present", [None, np.array([[True, True, False, True], [False] * 4])])
def test_gradient_of_the_masked_softmax(present):
    scores = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    targets = np.arange(8, dtype="float32").reshape(2, 4)
    assert_gradient_matches_differences(
        lambda s: tf.reduce_sum(targets * masked_softmax(s, present)), scores
    )


def test_pooling_by_hand():
    layer = AttentionPooling(1)
    layer.build((None, 2, 1))
    layer.hidden.set_weights([np.array([[1.0]]), np.array([0.0])])
    layer.score.set_weights([np.array([[1.0]])])
    # a' = ReLU(u) = (log 3, 0), so a = (3/4, 1/4) and the output 3/4 log 3 - 1/4.
    interactions = np.array([[[np.log(3)], [-1.0]]], "float32")
    np.testing.assert_allclose(layer.attention(interactions), [[0.75, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(layer(interactions), [[0.75 * np.log(3) - 0.25]], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_pooling_equals_its_twin(temperature, tmp_path):
    rng = np.random.default_rng(0)
    interactions = rng.normal(size=(3, 6, 4)).astype("float32")
    present = rng.random((3, 6)) > 0.3
    layer = AttentionPooling(5, temperature=temperature)
    layer.build(interactions.shape)
    randomize(layer)
    weights = attention_twin(interactions, *pooling_weights(layer), present, temperature)
    np.testing.assert_allclose(layer.attention(interactions, present), weights, atol=1e-6)
    expected = np.einsum("br,brd->bd", weights, interactions)
    np.testing.assert_allclose(layer(interactions, present=present), expected, atol=1e-5)
    check_layer(AttentionPooling(5), (interactions,), (3, 4), tmp_path)
    assert_gradient_matches_differences(
        lambda u: tf.reduce_sum(tf.square(layer(u, present=present))), interactions
    )


def test_infinite_temperature_gives_uniform_attention():
    interactions = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    present = np.array([[True] * 6, [True, False] * 3])
    layer = AttentionPooling(5, temperature=1e7)
    layer.build(interactions.shape)
    randomize(layer)
    expected = present / present.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(layer.attention(interactions, present), expected, rtol=1e-5)


def test_zero_temperature_gives_the_best_pair_alone():
    interactions = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    layer = AttentionPooling(5, temperature=1e-4)
    layer.build(interactions.shape)
    randomize(layer)
    scores = np.asarray(layer.score(layer.hidden(interactions)))[..., 0]
    expected = np.eye(6)[scores.argmax(axis=1)]
    np.testing.assert_allclose(layer.attention(interactions), expected, atol=1e-5)


def test_other_values_are_pooled_with_the_attention_of_the_interactions():
    rng = np.random.default_rng(0)
    interactions, values = rng.normal(size=(2, 3, 6, 4)).astype("float32")
    layer = AttentionPooling(5)
    layer(interactions)
    expected = np.einsum("br,brd->bd", layer.attention(interactions), values)
    np.testing.assert_allclose(layer(interactions, values=values), expected, atol=1e-6)


def test_dropout_falls_on_each_weighted_interaction():
    layer = AttentionPooling(5, dropout=0.5)
    interactions = np.full((200, 1, 4), 3.0, "float32")
    present = np.ones((200, 1), bool)
    pooled = np.asarray(layer(interactions, present=present, training=True))
    # One pair: its attention is 1, so each factor is dropped or doubled, on its own.
    np.testing.assert_array_equal(np.unique(pooled), [0.0, 6.0])
    assert 0.4 < (pooled == 0).mean() < 0.6
    assert len(np.unique(pooled, axis=0)) == 2**4


def test_pooling_rejects_bad_arguments():
    with pytest.raises(ValueError, match="attention_dim must be at least 1, got 0"):
        AttentionPooling(0)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        AttentionPooling(4, temperature=0)


def test_model_equals_its_twin():
    model = model_checks.small_model("afm", toy_features(), embedding_dim=3, attention_dim=5)
    inputs = toy_inputs(model.features)
    inputs["values"][1, 0] = 0.0
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    interactions = np.asarray(pairwise_products(vectors.astype("float32")))
    present = np.asarray(present_pairs(model.present(inputs)))
    weights = attention_twin(interactions, *pooling_weights(model.pooling), present)
    pairs = np.einsum("br,brd,d->b", weights, interactions, model.projection.kernel[:, 0])
    expected = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2)) + pairs
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_model_by_hand():
    features = Features(3, (Field("a"), Field("b"), Field("c")))
    model = build("afm", features, embedding_dim=1, attention_dim=1)
    model.first_order.set_weights([np.array([0.25]), np.array([[0.5], [1.0], [2.0]])])
    model.embedding.table.assign([[1.0], [np.log(2)], [np.log(4)]])
    model.pooling.set_weights([np.array([[1.0]]), np.array([0.0]), np.array([[1.0]])])
    model.projection.kernel.assign([[10.0]])
    inputs = {"ids": np.array([[0, 1, 2]]), "values": np.array([[1.0, 1.0, 0.0]], "float32")}
    # One pair is there: a = 1, log 2 * 10; first order 0.25 + 0.5 + 1.
    np.testing.assert_allclose(model(inputs), [[1.75 + 10 * np.log(2)]], rtol=1e-6)
    inputs["values"][0] = [1.0, 1.0, 0.5]
    # Pairs log 2, log 2 and (log 2)^2: e^a' = 2, 2, 2^(log 2).
    third = 2 ** np.log(2)
    pairs = (4 * np.log(2) + third * np.log(2) ** 2) / (4 + third)
    np.testing.assert_allclose(model(inputs), [[2.75 + 10 * pairs]], rtol=1e-6)


def test_starts_as_an_fm_of_weighted_pairs():
    model = build("afm", toy_features(), embedding_dim=4)
    np.testing.assert_array_equal(model.projection.kernel, np.ones((4, 1)))
    assert model.projection.bias is None


def test_the_projection_begins_as_told_after_reloading_too():
    model = build("afm", toy_features(), embedding_dim=64, projection_initializer="glorot_normal")
    first = np.asarray(model.projection.kernel)
    assert (first > 0).any() and (first < 0).any()
    assert np.std(first) == pytest.approx(np.sqrt(2 / (64 + 1)), rel=0.3)
    again = type(model).from_config(model.get_config())
    assert type(again.projection.kernel_initializer) is type(model.projection.kernel_initializer)
    with pytest.raises(ValueError, match="no_such"):
        build("afm", toy_features(), projection_initializer="no_such")


def test_explanation_shows_the_attention_of_the_pairs_that_exist():
    model = model_checks.small_model("afm", toy_features())
    inputs = toy_inputs(model.features)
    inputs["values"][0, 0] = 0.0
    inputs["values"][1] = 0.0
    parts = {key: np.asarray(part) for key, part in model.explain(inputs).items()}
    weights, contributions = parts["order_2_weights"], parts["order_2_contributions"]
    for matrix in (weights, contributions):
        np.testing.assert_array_equal(matrix, matrix.transpose(0, 2, 1))
        np.testing.assert_array_equal(np.diagonal(matrix, axis1=1, axis2=2), 0)
        np.testing.assert_array_equal(matrix[0, 0], 0)
        np.testing.assert_array_equal(matrix[1], 0)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)) / 2, [1, 0, 1, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(parts["logit"][1], model.first_order.bias, rtol=1e-6)


def test_parameter_count_of_the_papers_on_frappe():
    """AFM at K = t = 256 in Table 3 of Wang et al. 2020 (1.44M) and Table 2 of Hong et al. 2019."""
    features = Features(5382, tuple(Field(f"f{i}") for i in range(10)))
    model = build("afm", features, embedding_dim=256, attention_dim=256)
    assert model.count_params() == 5382 * 257 + 1 + 256 * 256 + 2 * 256 + 256 == 1_449_479


def test_rejects_a_single_field():
    with pytest.raises(ValueError, match="pairs need at least two fields, got 1"):
        build("afm", toy_features(fields=1))


def test_uniform_attention_and_ones_is_fm_over_the_number_of_pairs():
    model = model_checks.small_model("afm", toy_features())
    model.pooling.score.kernel.assign(np.zeros(model.pooling.score.kernel.shape))
    model.projection.kernel.assign(np.ones(model.projection.kernel.shape))
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    pair_term = np.asarray(model(inputs) - model.first_order(inputs))[:, 0]
    np.testing.assert_allclose(pair_term, fm_twin(vectors) / 6, atol=1e-6)


def test_attention_l2_is_added_as_it_is():
    model = model_checks.small_model("afm", toy_features(), attention_l2=0.5)
    model(toy_inputs(model.features), training=True)
    expected = 0.5 * np.square(model.pooling.hidden.kernel).sum()
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-6)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("afm", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
