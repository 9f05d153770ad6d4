"""ONN against plain loops."""

import numpy as np

from tests.models.test_fm import pooled_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def test_model_equals_its_twin():
    model = model_checks.small_model("onn", toy_features(), embedding_dim=3)
    inputs = toy_inputs(model.features)
    copies = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    table = np.asarray(model.product_embedding.table)
    aware = pooled_twin(table, inputs, model.features).reshape(5, 4, 3, 3)
    products = np.zeros((5, 6))
    for b in range(5):
        pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        for r, (i, j) in enumerate(pairs):
            # Field i has no vector for itself: its vector for a later field j stands at j - 1.
            products[b, r] = aware[b, i, j - 1] @ aware[b, j, i]
    expected = mlp_twin(model.network, np.concatenate([copies.reshape(5, -1), products], axis=1))
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("onn", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
