"""HoAFM against plain loops, and its aggregation layer."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.bitwise_aggregation import BitwiseAggregation
from tests.models.test_dahofm import toy_vectors
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def aggregation_twin(rows, layer):
    """One row: (F, D), by loops; the kernel lists each field's others in order."""
    kernel = np.asarray(layer.kernel)
    out = np.zeros(rows.shape)
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        for d in range(rows.shape[1]):
            length = np.sqrt(sum(kernel[i, place, d] ** 2 for place in range(len(others))))
            for place, j in enumerate(others):
                out[i, d] += kernel[i, place, d] / length * rows[j, d]
    return out


def test_aggregation_by_hand():
    layer = BitwiseAggregation()
    layer.build((None, 3, 1))
    layer.set_weights([np.array([[[3.0], [4.0]], [[0.0], [-2.0]], [[1.0], [1.0]]])])
    half = np.sqrt(0.5)
    weights = [[0, 0.6, 0.8], [0, 0, -1], [half, half, 0]]
    np.testing.assert_allclose(layer.pair_weights()[:, :, 0], weights, rtol=1e-6)
    out = layer(np.array([[[1.0], [10.0], [100.0]]], "float32"))
    np.testing.assert_allclose(out[0, :, 0], [86, -100, 11 * half], rtol=1e-6)


def test_aggregation_equals_its_twin(tmp_path):
    vectors = toy_vectors()
    layer = BitwiseAggregation()
    layer.build(vectors.shape)
    randomize(layer)
    for row in range(len(vectors)):
        expected = aggregation_twin(vectors[row], layer)
        np.testing.assert_allclose(layer(vectors)[row], expected, atol=1e-5)
    check_layer(BitwiseAggregation(), (vectors,), (3, 4, 3), tmp_path)
    assert_gradient_matches_differences(lambda v: tf.reduce_sum(layer(v) ** 2), vectors)


@pytest.mark.parametrize("all_orders", [True, False])
def test_model_equals_its_twin(all_orders):
    model = model_checks.small_model("hoafm", toy_features(), all_orders=all_orders)
    randomize(model, scale=0.8)
    inputs = toy_inputs(model.features)
    kernel = np.asarray(model.projection.kernel)[:, 0]
    expected = []
    for base in pooled_twin(np.asarray(model.embedding.table), inputs, model.features):
        vectors, pooled = base, []
        for aggregation in model.aggregations:
            y = base * aggregation_twin(vectors, aggregation)
            pooled.append(y.sum(axis=0))
            vectors = np.where(y > 0, y, 0.2 * y)
        expected.append(np.concatenate(pooled if all_orders else pooled[-1:]) @ kernel)
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)
    model_checks.check_completeness(model)


def test_explanation_has_no_pair_of_a_field_with_itself():
    model = model_checks.small_model("hoafm", toy_features())
    parts = model.explain(toy_inputs(model.features))
    for order in (2, 3, 4):
        shares = np.asarray(parts[f"order_{order}_contributions"])
        np.testing.assert_array_equal(shares[:, range(4), range(4)], 0)


def test_parameter_count():
    model = models.build("hoafm", toy_features(), embedding_dim=3, num_layers=2)
    assert model.count_params() == 40 * 3 + 2 * 4 * 3 * 3 + 2 * 3


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        models.build("hoafm", toy_features(), num_layers=0)
    with pytest.raises(ValueError, match="at least 2 fields, got 1"):
        models.build("hoafm", toy_features(fields=1))
