"""Deep Crossing and its residual unit against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.residual_unit import ResidualUnit
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
    toy_features,
    toy_inputs,
)


def unit_twin(unit, x):
    hidden = np.maximum(x @ unit.hidden.kernel.numpy() + unit.hidden.bias.numpy(), 0)
    total = hidden @ unit.output_layer.kernel.numpy() + unit.output_layer.bias.numpy() + x
    return np.maximum(total, 0) if unit.final_relu else total


@pytest.mark.parametrize("final_relu", [True, False])
def test_unit_equals_its_twin(final_relu, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    unit = ResidualUnit(4, final_relu=final_relu)
    unit.build(x.shape)
    randomize(unit)
    np.testing.assert_allclose(unit(x), unit_twin(unit, x), atol=1e-5)
    check_layer(ResidualUnit(4, final_relu=final_relu), (x,), (5, 6), tmp_path)
    assert_gradient_matches_differences(lambda t: tf.reduce_sum(tf.square(unit(t))), x)


def test_unit_by_hand():
    unit = ResidualUnit(1)
    unit.build((None, 2))
    unit.hidden.set_weights([np.array([[1.0], [2.0]]), np.array([-1.0])])
    unit.output_layer.set_weights([np.array([[1.0, -1.0]]), np.array([0.5, 0.5])])
    # hidden = 1 + 2 - 1 = 2; output = ReLU((2.5, -1.5) + (1, 1)).
    np.testing.assert_allclose(unit(np.ones((1, 2), "float32")), [[3.5, 0.0]])


def test_unit_rejects_sizes_below_one():
    with pytest.raises(ValueError, match="units must be at least 1, got 0"):
        ResidualUnit(0)


def test_model_equals_its_twin():
    model = model_checks.small_model("deepcrossing", toy_features())
    inputs = toy_inputs(model.features)
    x = pooled_twin(np.asarray(model.embedding.table), inputs, model.features).reshape(5, -1)
    for unit in model.units:
        x = unit_twin(unit, x)
    expected = x @ model.score.kernel.numpy() + model.score.bias.numpy()
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("deepcrossing", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
