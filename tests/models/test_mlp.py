"""The shared MLP against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.mlp import MLP
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    randomize,
)


def mlp_twin(mlp, x):
    """Dense, batch norm with its stored statistics, ReLU; a linear output at the end."""
    steps = {step.name: step for step in mlp.steps}
    for index in range(len(mlp.units)):
        x = _dense(steps[f"hidden_{index}"], x)
        if mlp.batch_norm:
            norm = steps[f"norm_{index}"]
            scale = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + 1e-5)
            x = (x - norm.moving_mean.numpy()) * scale + norm.beta.numpy()
        x = np.maximum(x, 0)
    return _dense(steps["output"], x) if mlp.output_dim is not None else x


def _dense(layer, x):
    product = x @ layer.kernel.numpy()
    return product if layer.bias is None else product + layer.bias.numpy()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("output_dim", [None, 2])
def test_equals_its_twin(batch_norm, output_dim, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    mlp = MLP([4, 3], batch_norm=batch_norm, dropout=0.5, output_dim=output_dim)
    mlp.build(x.shape)
    randomize(mlp)
    np.testing.assert_allclose(mlp(x), mlp_twin(mlp, x), atol=1e-5)
    check_layer(
        MLP([4, 3], batch_norm=batch_norm, dropout=0.5, output_dim=output_dim),
        (x,),
        (5, output_dim or 3),
        tmp_path,
    )
    smooth = MLP([4], "tanh", batch_norm=batch_norm, output_dim=output_dim)
    assert_gradient_matches_differences(lambda t: tf.reduce_sum(tf.square(smooth(t))), x)


def test_output_without_bias():
    mlp = MLP([4], output_dim=1, output_bias=False)
    mlp.build((None, 3))
    assert mlp.count_params() == (3 * 4 + 4) + 4


def test_no_layers_is_the_identity():
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(MLP([])(x), x)


def test_dropout_acts_in_training_only():
    x = np.ones((4, 8), "float32")
    mlp = MLP([64], dropout=0.5)
    np.testing.assert_array_equal(mlp(x), mlp(x, training=False))
    assert not np.array_equal(mlp(x), mlp(x, training=True))


def test_batch_norm_uses_the_batch_in_training():
    x = np.random.default_rng(0).normal(3.0, 2.0, (256, 4)).astype("float32")
    mlp = MLP([3], "linear", batch_norm=True)
    np.testing.assert_allclose(np.mean(mlp(x, training=True), axis=0), 0, atol=1e-4)
    assert np.abs(np.mean(mlp(x, training=False), axis=0)).max() > 0.1


def test_l2_covers_every_kernel():
    mlp = MLP([4], l2=0.5, output_dim=1)
    mlp(np.ones((2, 3), "float32"))
    kernels = [weight for weight in mlp.weights if weight.name == "kernel"]
    expected = 0.5 * sum(np.square(kernel.numpy()).sum() for kernel in kernels)
    assert len(kernels) == 2
    np.testing.assert_allclose(sum(mlp.losses), expected, rtol=1e-5)


def test_rejects_sizes_below_one():
    with pytest.raises(ValueError, match=r"at least 1 unit, got \[4, 0\]"):
        MLP([4, 0])
