"""DeepIFM: the sum of IFM and an MLP over the same vectors."""

import numpy as np
import pytest

from models import entry
from tests.models.test_fm import pooled_twin
from tests.models.test_ifm import model_twin
from tests.models.test_mlp import mlp_twin
from tests.support import model_checks
from tests.support.layer_checks import assert_finite_gradients, toy_features, toy_inputs


@pytest.mark.parametrize("batch_norm", [False, True])
def test_model_equals_its_twin(batch_norm):
    model = model_checks.small_model(
        "deepifm", toy_features(), hidden_units=[5, 3], batch_norm=batch_norm
    )
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    deep = mlp_twin(model.mlp, vectors.reshape(5, 4 * 4))[:, 0]
    expected = model_twin(model, inputs) + deep
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)


def test_explanation_lacks_the_deep_part_only():
    model = model_checks.small_model("deepifm", toy_features(), hidden_units=[5])
    inputs = toy_inputs(model.features)
    parts = {key: np.asarray(part) for key, part in model.explain(inputs).items()}
    wide = parts["bias"][:, 0] + parts["first_order"].sum(axis=1)
    wide += parts["order_2_contributions"].sum(axis=(1, 2))
    vectors = model.embedding(inputs)
    deep = np.asarray(model.mlp(np.reshape(vectors, (5, 16))))
    np.testing.assert_allclose(parts["logit"][:, 0] - wide, deep[:, 0], atol=1e-5)


def test_sampling_trains_on_the_papers_tenth_of_the_pairs():
    assert entry("deepifm-sampling").defaults == {"sampling": 0.1}
    features = toy_features(fields=7)
    model = model_checks.small_model("deepifm-sampling", features)
    assert len(np.asarray(model.interaction.draw()[0])) == 2  # of 21
    everything = model_checks.small_model("deepifm", features)
    inputs = toy_inputs(features)
    np.testing.assert_array_equal(model(inputs), everything(inputs))
    assert not np.allclose(model(inputs, training=True), everything(inputs, training=True))
    assert_finite_gradients(model, (inputs,), training=True)


def test_both_dropouts_act_in_training_only():
    for arguments in ({"dropout": 0.5}, {"hidden_dropout": 0.5}):
        model = model_checks.small_model("deepifm", toy_features(), **arguments)
        inputs = toy_inputs(model.features)
        np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
        assert not np.array_equal(model(inputs), model(inputs, training=True))
