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
    rounded = round(0.3 * 65_536) / 65_536
    assert set(np.unique(dropped)) == {np.float32(0.0), np.float32(1.0 / (1.0 - rounded))}
    # 32,000 numbers: the standard error of the share is .0026.
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    by_example = (dropped == 0).mean(axis=(1, 2))
    assert 0.15 < by_example.min() < by_example.max() < 0.45


@compiled_or_not
def test_the_two_numbers_of_a_word_have_nothing_to_do_with_each_other(compiled):
    dropped = training_call(0.5, 3, compiled)().numpy().ravel() == 0
    first, second = np.split(dropped, 2)
    # Of 16,000 pairs a quarter are both dropped; the standard error is .0034.
    assert (first & second).mean() == pytest.approx(0.25, abs=0.015)


@compiled_or_not
@pytest.mark.parametrize("rate", [0.001, 0.999, 1.0 - 2**-18])
def test_rates_near_none_and_near_all_keep_the_mean_finite(rate, compiled):
    dropped = training_call(rate, 5, compiled)().numpy()
    assert np.isfinite(dropped).all()
    assert (dropped == 0).mean() == pytest.approx(rate, abs=0.002)


@compiled_or_not
def test_an_odd_number_of_inputs(compiled):
    layer = Dropout(0.5, seed=1)
    inputs = np.ones((3, 7), np.float32)
    layer.build(inputs.shape)
    dropped = tf.function(lambda: layer(inputs, training=True), jit_compile=compiled)()
    assert set(np.unique(dropped)) == {0.0, 2.0}


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
