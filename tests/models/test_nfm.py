"""NFM against plain loops, and its limit."""

import numpy as np
import pytest

from tests.models.test_fm import fm_twin, pooled_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def bi_interaction_twin(vectors):
    """sum over i < j of v_i * v_j, by loops."""
    pooled = np.zeros((len(vectors), vectors.shape[2]))
    for b, row in enumerate(vectors):
        for i in range(len(row)):
            for j in range(i + 1, len(row)):
                pooled[b] += row[i] * row[j]
    return pooled


@pytest.mark.parametrize("batch_norm", [False, True])
def test_model_equals_its_twin(batch_norm):
    model = model_checks.small_model("nfm", toy_features(), batch_norm=batch_norm)
    inputs = toy_inputs(model.features)
    pooled = bi_interaction_twin(
        pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    )
    if batch_norm:
        norm = model.norm
        deviation = np.sqrt(norm.moving_variance.numpy() + 1e-5)
        pooled = (pooled - norm.moving_mean.numpy()) / deviation
        pooled = pooled * norm.gamma.numpy() + norm.beta.numpy()
    expected = np.asarray(model.first_order(inputs)) + mlp_twin(model.network, pooled)
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_without_hidden_layers_and_h_of_ones_is_fm():
    model = model_checks.small_model("nfm", toy_features(), hidden_units=[])
    (h,) = model.network.weights
    h.assign(np.ones(h.shape))
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    pair_term = np.asarray(model(inputs) - model.first_order(inputs))[:, 0]
    np.testing.assert_allclose(pair_term, fm_twin(vectors), atol=1e-5)


@pytest.mark.parametrize("argument", ["interaction_dropout", "dropout"])
def test_dropout_acts_in_training_only(argument):
    model = model_checks.small_model("nfm", toy_features(), **{argument: 0.5})
    inputs = toy_inputs(model.features, batch=32)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
