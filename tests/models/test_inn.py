"""INN against plain loops."""

import numpy as np

from models import build
from tests.models.test_fm import pooled_twin
from tests.models.test_ifm import weighted_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def test_model_equals_its_twin():
    model = model_checks.small_model("inn", toy_features(), hidden_units=[5, 3])
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    weighted = weighted_twin(model.interaction, vectors, np.asarray(model.present(inputs)))
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    expected = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2))
    expected += mlp_twin(model.mlp, weighted.reshape(5, 6 * 4))[:, 0]
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_a_single_linear_layer_of_ones_is_ifm():
    ifm = model_checks.small_model("ifm", toy_features())
    inn = model_checks.small_model("inn", toy_features(), hidden_units=[])
    for layer in ("first_order", "embedding", "interaction"):
        getattr(inn, layer).set_weights(getattr(ifm, layer).get_weights())
    inn.mlp.set_weights([np.ones((24, 1)), np.zeros(1)])
    inputs = toy_inputs(ifm.features)
    np.testing.assert_allclose(inn(inputs), ifm(inputs), atol=1e-5)


def test_the_mlp_reads_every_factor_of_every_pair():
    model = build("inn", toy_features(), embedding_dim=4, hidden_units=[5], l2=0.5)
    kernel = model.mlp.trainable_variables[0]
    assert tuple(kernel.shape) == (6 * 4, 5)
    model(toy_inputs(model.features), training=True)
    squares = sum(np.square(w).sum() for w in model.mlp.get_weights() if w.ndim == 2)
    np.testing.assert_allclose(sum(model.losses), 0.5 * squares, rtol=1e-6)
