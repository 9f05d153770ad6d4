"""Wide & Deep against plain loops."""

import numpy as np

from tests.models.test_fm import pooled_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def test_model_equals_its_twin():
    model = model_checks.small_model("wide-deep", toy_features(), batch_norm=True)
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    deep = mlp_twin(model.network, vectors.reshape(len(vectors), -1))[:, 0]
    expected = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2)) + deep
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_the_explanation_holds_the_wide_part():
    model = model_checks.small_model("wide-deep", toy_features())
    assert model.explanation_keys == ["logit", "bias", "first_order"]
