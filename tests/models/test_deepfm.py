"""DeepFM against plain loops."""

import numpy as np

from tests.models.test_fm import fm_twin, pooled_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def parts():
    """A model, its inputs, and the logit's three parts by loops: linear, pairs, network."""
    model = model_checks.small_model("deepfm", toy_features(), batch_norm=True)
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    deep = mlp_twin(model.network, vectors.reshape(len(vectors), -1))[:, 0]
    linear = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2))
    return model, inputs, linear, fm_twin(vectors), deep


def test_model_equals_its_twin():
    model, inputs, linear, pairs, deep = parts()
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], linear + pairs + deep, atol=1e-5)


def test_the_explanation_splits_the_fm_part():
    model, inputs, linear, pairs, _ = parts()
    explanation = {key: np.asarray(part) for key, part in model.explain(inputs).items()}
    explained = explanation["bias"][:, 0] + explanation["first_order"].sum(axis=1)
    np.testing.assert_allclose(explained, linear, atol=1e-5)
    contributions = explanation["order_2_contributions"]
    np.testing.assert_allclose(contributions.sum(axis=(1, 2)), pairs, atol=1e-5)
    np.testing.assert_array_equal(contributions, contributions.transpose(0, 2, 1))
