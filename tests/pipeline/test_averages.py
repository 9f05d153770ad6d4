"""`optimizer.use_ema`: averages are measured, kept and saved; training goes on from the weights."""

import keras
import numpy as np
import pytest
from rich.console import Console

from pipeline.errors import PipelineError
from pipeline.evaluate import Scorer
from pipeline.train import Trainer
from tests.pipeline.support import MemoryPrepared, assert_bit_equal, run_config, train, weights

MOMENTUM = 0.9
AVERAGED = {"use_ema": True, "ema_momentum": MOMENTUM}


class Steps(keras.callbacks.Callback):
    """The trainable weights after each step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append([variable.numpy() for variable in self.model.trainable_variables])


def run_steps(output, **sections):
    steps = Steps()
    config = run_config(output, **sections)
    trainer = Trainer(config, MemoryPrepared(), Console(quiet=True))
    return trainer.train(extra_callbacks=[steps]), steps.weights


@pytest.mark.parametrize("tables", ["sparse", "dense"])
def test_the_averages_are_measured_and_saved_and_training_goes_on_from_the_weights(
    tmp_path, tables
):
    _, plain = run_steps(tmp_path / "plain", optimizer={"tables": tables})
    result, found = run_steps(tmp_path / "r", optimizer={"tables": tables, **AVERAGED})
    # The learning rate and the end do not depend on validation here, so neither do the steps.
    assert len(plain) == len(found) == 30
    for one, other in zip(plain, found, strict=True):
        assert_bit_equal(one, other)
    average, at_end = found[0], []
    for step, values in enumerate(found, start=1):
        average = [MOMENTUM * a + (1 - MOMENTUM) * v for a, v in zip(average, values, strict=True)]
        if step % 10 == 0:
            at_end.append(average)
    part = MemoryPrepared().arrays("validation")
    label = part["label"]
    for logged, expected in zip(result.history, at_end, strict=True):
        for variable, value in zip(result.model.trainable_variables, expected, strict=True):
            variable.assign(value)
        logits = Scorer(result.model)(part["ids"], part["values"])
        logloss = np.mean(np.logaddexp(0, logits) - label * logits)
        assert logged["val_logloss"] == pytest.approx(logloss, abs=1e-5)
    best = at_end[result.metrics["training"]["best_epoch"] - 1]
    for saved, expected in zip(weights(tmp_path / "r"), best, strict=False):
        np.testing.assert_allclose(saved, expected, atol=1e-5)


def test_a_run_that_was_cut_ends_with_the_same_averages(tmp_path):
    """10 steps an epoch; cut within the second, so that it goes on with two calls of `fit`."""
    optimizer = {"optimizer": {**AVERAGED, "ema_momentum": 0.99}}
    whole = train(tmp_path / "whole", **optimizer)

    class CutAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 16:
                raise KeyboardInterrupt

    config = run_config(tmp_path / "r", training={"checkpoint": {"every_steps": 3}}, **optimizer)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, MemoryPrepared(), Console(quiet=True)).train(extra_callbacks=[CutAt()])
    resumed = train(tmp_path / "r", resume=True, **optimizer)
    assert_bit_equal(weights(tmp_path / "r"), weights(tmp_path / "whole"))
    assert resumed.history[-1]["val_auc"] == whole.history[-1]["val_auc"]


@pytest.mark.parametrize(
    ("optimizer", "epochs"),
    [({}, 2), ({**AVERAGED, "ema_momentum": 0.97}, 5)],  # 34 steps of 10 an epoch
)
def test_early_stopping_does_not_count_the_epochs_of_the_first_weights(tmp_path, optimizer, epochs):
    stop = {"metric": "auc", "patience": 1, "min_delta": 1.0}  # which none but the first reaches
    training = {"epochs": 8, "early_stopping": stop}
    result = train(tmp_path / "r", optimizer=optimizer, training=training)
    assert len(result.history) == epochs


def test_the_rate_does_not_fall_for_the_epochs_of_the_first_weights(tmp_path):
    reduce = {"metric": "auc", "factor": 0.5, "min_delta": 1.0}  # no epoch improves by so much
    training = {"epochs": 7, "early_stopping": None, "reduce_lr": reduce}
    optimizer = {**AVERAGED, "ema_momentum": 0.97, "learning_rate": 0.4}
    result = train(tmp_path / "r", optimizer=optimizer, training=training)
    rates = [row["learning_rate"] for row in result.history]
    np.testing.assert_allclose(rates, [0.4] * 5 + [0.2, 0.1], rtol=1e-6)


def test_averages_beside_gradient_accumulation_by_row_are_refused(tmp_path):
    optimizer = {**AVERAGED, "tables": "sparse", "gradient_accumulation_steps": 2}
    with pytest.raises(PipelineError, match=r"use_ema with gradient_accumulation_steps needs"):
        train(tmp_path / "r", optimizer=optimizer)


def test_batch_normalization_is_fitted_to_the_averages(tmp_path):
    model = {"name": "deepfm", "hidden_units": [4], "batch_norm": True, "dropout": 0.0}
    training = {"epochs": 2, "batch_size": 100}
    _, before = run_steps(tmp_path / "plain", model=model, training=training)
    result, after = run_steps(
        tmp_path / "r", model=model, training=training, optimizer={**AVERAGED, "tables": "dense"}
    )
    assert_bit_equal(before[-1], after[-1])
    (norm,) = (
        layer
        for layer in result.model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    assert norm.momentum == 0.9
    # The hidden layer before its normalization, of the training rows: twelve batches of a hundred.
    seen = []
    call = type(norm).call

    def spy(self, inputs, **options):
        seen.append(keras.ops.convert_to_numpy(inputs))
        return call(self, inputs, **options)

    part = MemoryPrepared().arrays("train")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(norm), "call", spy)
        result.model({"ids": part["ids"], "values": part["values"]}, training=False)
    (hidden,) = seen
    np.testing.assert_allclose(norm.moving_mean, hidden.mean(axis=0), atol=1e-5)
    # The mean of the batches' variances is less than that of all rows, by a hundredth or so.
    np.testing.assert_allclose(norm.moving_variance, hidden.var(axis=0), rtol=0.03)
