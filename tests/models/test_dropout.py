import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers.dropout import Dropout

ONES = np.ones((64, 50, 10), np.float32)

compiled_or_not = pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])


def training_call(rate, seed, compiled):
    layer = Dropout(rate, seed=seed)
    layer.build(ONES.shape)
    return tf.function(lambda: layer(ONES, training=True), jit_compile=compiled)


@compiled_or_not
def test_drops_its_share_and_keeps_the_mean(compiled):
    dropped = training_call(0.3, 1, compiled)().numpy()
    assert set(np.unique(dropped)) == {np.float32(0.0), np.float32(1.0 / 0.7)}
    # 32,000 numbers: the standard error of the share is .0026.
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    by_example = (dropped == 0).mean(axis=(1, 2))
    assert 0.15 < by_example.min() < by_example.max() < 0.45


@compiled_or_not
def test_each_call_draws_anew_and_a_seed_repeats_them(compiled):
    first, second = (training_call(0.5, 7, compiled) for _ in range(2))
    calls = [call().numpy() for call in (first, first, second, second)]
    assert (calls[0] != calls[1]).any()
    np.testing.assert_array_equal(calls[0], calls[2])
    np.testing.assert_array_equal(calls[1], calls[3])


@pytest.mark.parametrize("call", [{}, {"training": False}])
def test_nothing_is_dropped_outside_training(call):
    np.testing.assert_array_equal(Dropout(0.5)(ONES, **call), ONES)


def test_half_precision_stays_half():
    layer = Dropout(0.5, dtype=keras.DTypePolicy("mixed_bfloat16"))
    assert layer(ONES, training=True).dtype == "bfloat16"
