"""FM against plain loops, and its layers."""

import numpy as np
import pytest

from models import Features, Field
from models.layers.feature_embedding import FeatureEmbedding, present_fields
from models.layers.first_order import FirstOrder
from models.layers.fm_interaction import FMInteraction, gram_contributions
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def pooled_twin(table, inputs, features):
    """sum over a field's positions of x v, by loops."""
    out = np.zeros((len(inputs["ids"]), features.num_fields, table.shape[1]))
    for b in range(len(out)):
        position = 0
        for f, field in enumerate(features.fields):
            for _ in range(field.positions):
                out[b, f] += inputs["values"][b, position] * table[inputs["ids"][b, position]]
                position += 1
    return out


def fm_twin(vectors):
    """sum over i < j of <v_i, v_j>, by loops."""
    fields = vectors.shape[1]
    return np.array(
        [
            sum(row[i] @ row[j] for i in range(fields) for j in range(i + 1, fields))
            for row in vectors
        ]
    )


def test_feature_embedding_equals_its_twin(tmp_path):
    features, inputs = toy_features(), toy_inputs(toy_features())
    layer = FeatureEmbedding(features, 3)
    output = layer(inputs)
    twin = pooled_twin(np.asarray(layer.table), inputs, features)
    np.testing.assert_allclose(output, twin, atol=1e-6)
    check_layer(FeatureEmbedding(features, 3), (inputs,), (5, 4, 3), tmp_path)


def test_feature_embedding_reads_only_the_rows_of_the_batch():
    import tensorflow as tf

    layer = FeatureEmbedding(toy_features(), 3)
    inputs = toy_inputs(toy_features())
    layer(inputs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs))
    gradient = tape.gradient(loss, layer.trainable_weights)[0]
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.values.shape[0] == inputs["ids"].size


def test_feature_embedding_rejects_a_size_below_one():
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        FeatureEmbedding(toy_features(), 0)


def test_present_fields_by_hand():
    features = Features(9, (Field("a"), Field("b", 2), Field("c")))
    values = np.array([[1, 0, 0.5, 0], [0, 0, 0, 2]], "float32")
    expected = [[True, True, False], [False, False, True]]
    np.testing.assert_array_equal(present_fields(values, features), expected)


def test_first_order_by_hand(tmp_path):
    features = Features(3, (Field("a"), Field("b", 2)))
    layer = FirstOrder(features)
    layer.build()
    layer.weight.table.assign([[1.0], [10.0], [100.0]])
    layer.bias.assign([0.25])
    inputs = {"ids": np.array([[0, 1, 2]]), "values": np.array([[2.0, 0.5, 0.5]], "float32")}
    np.testing.assert_allclose(layer(inputs), [[57.25]])
    np.testing.assert_allclose(layer.contributions(inputs), [[2.0, 55.0]])
    check_layer(FirstOrder(toy_features()), (toy_inputs(toy_features()),), (5, 1), tmp_path)


def test_interaction_by_hand_and_by_loops(tmp_path):
    by_hand = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]], "float32")
    # 1*3 + 1*5 + 3*5 = 23; 2*4 + 2*6 + 4*6 = 44
    np.testing.assert_allclose(FMInteraction()(by_hand), [[23.0, 44.0]])
    vectors = np.random.default_rng(0).normal(size=(5, 6, 3)).astype("float32")
    np.testing.assert_allclose(
        np.asarray(FMInteraction()(vectors)).sum(axis=1), fm_twin(vectors), atol=1e-5
    )
    check_layer(FMInteraction(), (vectors,), (5, 3), tmp_path)
    assert_gradient_matches_differences(lambda v: _sum_square(FMInteraction()(v)), vectors[:2])


def test_gram_contributions_are_symmetric_halves():
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    weights, contributions = (np.asarray(part) for part in gram_contributions(vectors))
    np.testing.assert_allclose(contributions.sum(axis=(1, 2)), fm_twin(vectors), atol=1e-5)
    np.testing.assert_array_equal(contributions, contributions.transpose(0, 2, 1))
    np.testing.assert_array_equal(weights[0], 1 - np.eye(4))


def test_model_equals_its_twin():
    model = model_checks.small_model("fm", toy_features(), embedding_dim=3)
    randomize(model)
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    expected = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2)) + fm_twin(vectors)
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("fm", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))


def _sum_square(tensor):
    import tensorflow as tf

    return tf.reduce_sum(tf.square(tensor))
