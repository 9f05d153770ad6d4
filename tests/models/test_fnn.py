"""FNN against plain loops."""

import numpy as np

from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs


def test_model_equals_its_twin():
    model = model_checks.small_model("fnn", toy_features(), hidden_units=[5])
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    hidden, _, output = model.network.steps
    for b, logit in enumerate(np.asarray(model(inputs))):
        z = [float(model.first_order.bias[0])]
        for f in range(4):
            z += [linear[b, f, 0], *vectors[b, f]]
        h = np.tanh(np.array(z) @ hidden.kernel.numpy() + hidden.bias.numpy())
        expected = h @ output.kernel.numpy() + output.bias.numpy()
        np.testing.assert_allclose(logit, expected, atol=1e-5)


def test_its_first_order_weights_are_no_part_of_the_logit():
    assert model_checks.small_model("fnn", toy_features()).explanation_keys == ["logit"]


def test_dropout_acts_in_training_only():
    model = model_checks.small_model("fnn", toy_features(), dropout=0.5)
    inputs = toy_inputs(model.features)
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert not np.array_equal(model(inputs), model(inputs, training=True))
