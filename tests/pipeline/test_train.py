import csv
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from pipeline.config import TrainingConfig
from pipeline.data import TrainingData
from pipeline.errors import PipelineError
from pipeline.evaluate import Scorer
from pipeline.model import steps_per_execution
from pipeline.rundir import Run
from pipeline.train import Trainer
from tests.pipeline.support import MemoryPrepared, assert_bit_equal, run_config, train, weights

ROOT = Path(__file__).parents[2]


def worker(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.pipeline.train_worker", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run") / "run")


def test_learns_the_interaction_in_the_data(tmp_path):
    result = train(tmp_path / "run", training={"epochs": 10})
    # Of twenty seeds the lowest has .775, the highest .835.
    assert result.metrics["validation"]["auc"] > 0.76


def test_leaves_a_whole_run_directory(trained):
    directory = trained.run.directory
    for name in ("config.yaml", "model.keras", "history.csv", "metrics.json", "dataset.json"):
        assert (directory / name).is_file()
    with (directory / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == trained.metrics["training"]["epochs"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    again = Run.load(directory)
    assert again.config == trained.run.config
    part = MemoryPrepared().arrays("test")
    scorer, loaded = Scorer(trained.model), Scorer(again.load_model())
    expected = scorer(part["ids"], part["values"])
    np.testing.assert_array_equal(loaded(part["ids"], part["values"]), expected)


def test_best_weights_are_kept(tmp_path):
    result = train(
        tmp_path / "r",
        optimizer={"learning_rate": 0.3},
        training={"epochs": 6, "early_stopping": {"metric": "logloss", "patience": 2}},
    )
    losses = [row["val_logloss"] for row in result.history]
    assert result.metrics["training"]["best_epoch"] == int(np.argmin(losses)) + 1
    assert result.metrics["validation"]["logloss"] == pytest.approx(min(losses), abs=1e-9)
    assert len(losses) < 6 or losses[-1] > min(losses)


def test_two_runs_are_equal_bit_for_bit_and_another_seed_differs(tmp_path):
    compiled = {"model": {"name": "afm", "dropout": 0.3}, "training": {"jit_compile": "auto"}}
    first = train(tmp_path / "a", **compiled)
    second = train(tmp_path / "b", **compiled)
    assert_bit_equal(weights(first.run.directory), weights(second.run.directory))
    other = train(tmp_path / "c", model={"name": "afm", "dropout": 0.3}, seed=6)
    pairs = zip(weights(first.run.directory), weights(other.run.directory), strict=True)
    assert any(not np.array_equal(one, two) for one, two in pairs)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    runs = {}
    for disk in (False, True):
        flags = ["--disk", "--steps-per-execution", 1] if disk else []
        done = worker(folder / str(disk), *flags)
        assert done.returncode == 0, done.stderr
        runs[disk] = folder / str(disk)
    return runs


# 10 steps an epoch, a checkpoint every 4: the kill comes within the second and the third epoch.
# From disk, the run that is killed takes two steps a call, the other one.
@pytest.mark.parametrize(("kill_at", "disk"), [(17, False), (26, True)])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, kill_at, disk):
    flags = ["--disk", "--steps-per-execution", 2] if disk else []
    killed = worker(tmp_path / "run", "--kill-at", kill_at, *flags)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model.keras").exists()
    resumed = worker(tmp_path / "run", "--resume", *flags)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed at step {kill_at // 10 * 10 + kill_at % 10 // 4 * 4}" in resumed.stderr
    whole = uninterrupted[disk]
    assert_bit_equal(weights(tmp_path / "run"), weights(whole))
    timings = ("seconds", "examples_per_second")
    with (tmp_path / "run/history.csv").open() as a, (whole / "history.csv").open() as b:
        for one, other in zip(csv.DictReader(a), csv.DictReader(b), strict=True):
            for name in one:
                assert name in timings or one[name] == other[name], name


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first = train(tmp_path / "r")
    before = weights(tmp_path / "r")
    second = train(tmp_path / "r", resume=True)
    assert second.metrics["training"]["steps"] == first.metrics["training"]["steps"]
    assert_bit_equal(before, weights(tmp_path / "r"))


def test_a_run_goes_on_for_more_epochs_and_other_calls(tmp_path):
    """10 steps an epoch; the first run is cut in the second epoch, at no whole number of calls."""
    whole = train(tmp_path / "whole", training={"epochs": 2})

    class CutAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5 and self.model.optimizer.iterations > 10:
                raise KeyboardInterrupt

    config = run_config(tmp_path / "r", training={"checkpoint": {"every_steps": 3}})
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, MemoryPrepared(), Console(quiet=True)).train(extra_callbacks=[CutAt()])
    training = {"epochs": 2, "steps_per_execution": 5}
    resumed = train(tmp_path / "r", resume=True, training=training)
    assert resumed.metrics["training"]["steps"] == 20
    assert Run.load(tmp_path / "r").config.training.epochs == 2
    assert_bit_equal(weights(tmp_path / "r"), weights(whole.run.directory))


def test_resuming_before_the_first_checkpoint_starts_over(tmp_path):
    first = train(tmp_path / "a")
    Run.create(run_config(tmp_path / "b"))
    second = train(tmp_path / "b", resume=True)
    assert second.metrics["training"]["steps"] == first.metrics["training"]["steps"]
    assert_bit_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_resume_refuses_another_dataset(tmp_path):
    train(tmp_path / "r", training={"epochs": 1})
    with pytest.raises(PipelineError, match="not the dataset that"):
        train(tmp_path / "r", prepared=MemoryPrepared(seed=1), resume=True)


@pytest.mark.parametrize("in_memory", [True, False])
def test_dataset_begins_at_any_step(in_memory):
    config = run_config(Path("unused"), data={"in_memory": in_memory})
    data = TrainingData(MemoryPrepared(), 128, 3, config.data)
    batches = [x["ids"].numpy() for x, _ in data.dataset(0, 2)]
    assert len(batches) == 2 * data.steps_per_epoch == 20
    for first in (3, 10, 14):
        later = [x["ids"].numpy() for x, _ in data.dataset(first, 2)]
        assert_bit_equal(later, batches[first:])
    epochs = np.concatenate(batches[:10]), np.concatenate(batches[10:])
    assert not np.array_equal(*epochs)
    everything = MemoryPrepared().arrays("train")["ids"]
    for epoch in epochs:
        np.testing.assert_array_equal(
            epoch[np.lexsort(epoch.T)], everything[np.lexsort(everything.T)]
        )


def test_several_steps_a_call_give_the_same_weights(tmp_path):
    # 10 steps an epoch: of at most 4 steps a call 2 divide them.
    one = train(tmp_path / "one")
    several = train(tmp_path / "several", training={"steps_per_execution": 4})
    assert several.model.steps_per_execution == 2
    assert several.metrics["training"]["steps"] == one.metrics["training"]["steps"]
    assert int(several.model.optimizer.iterations) == int(one.model.optimizer.iterations)
    assert_bit_equal(weights(one.run.directory), weights(several.run.directory))


@pytest.mark.parametrize(
    ("training", "steps", "replicas", "expected"),
    [
        ({"batch_size": 512}, 1600, 1, 16),
        ({"batch_size": 512}, 1500, 1, 15),
        ({"batch_size": 512}, 1601, 1, 1),
        ({"batch_size": 512}, 400, 1, 4),
        ({"batch_size": 4096}, 1600, 1, 2),
        ({"batch_size": 512}, 1600, 2, 1),
        ({"batch_size": 512, "warmup_steps": 5}, 1600, 1, 1),
        ({"batch_size": 512, "checkpoint": {"every_steps": 100}}, 1600, 1, 10),
        ({"steps_per_execution": 3}, 10, 1, 2),
    ],
)
def test_steps_of_a_call_divide_the_epoch(training, steps, replicas, expected):
    assert steps_per_execution(TrainingConfig(**training), steps, replicas) == expected


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"optimizer": {"learning_rate": 0.1}}, "begun with optimizer.learning_rate 0.05, not 0.1"),
        ({"training": {"batch_size": 64}}, "begun with training.batch_size 128, not 64"),
        ({"model": {"name": "afm"}}, "begun with model.name 'fm', not 'afm'"),
        ({"training": {"early_stopping": {"metric": "gauc"}}}, "early_stopping.metric 'auc', not"),
    ],
)
def test_resume_refuses_other_steps(trained, sections, part):
    before = (trained.run.directory / "config.yaml").read_text()
    with pytest.raises(PipelineError, match=part):
        train(trained.run.directory, resume=True, **sections)
    assert (trained.run.directory / "config.yaml").read_text() == before


def test_regression_uses_signed_labels(tmp_path):
    result = train(tmp_path / "r", training={"task": "regression", "epochs": 4})
    assert result.metrics["validation"]["rmse"] < 0.9
    part = MemoryPrepared().arrays("validation")
    predictions = Scorer(result.model)(part["ids"], part["values"])
    signed = 2 * part["label"] - 1
    expected = np.sqrt(np.mean((np.clip(predictions, -1, 1) - signed) ** 2))
    assert result.metrics["validation"]["rmse"] == pytest.approx(expected, rel=1e-6)


def test_learning_rate_warms_up_and_falls_on_a_plateau(tmp_path):
    rates = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    config = run_config(
        tmp_path / "r",
        optimizer={"learning_rate": 0.4},
        training={
            "epochs": 4,
            "warmup_steps": 4,
            "early_stopping": None,
            "reduce_lr": {"metric": "logloss", "factor": 0.5, "min_delta": 10.0},
        },
    )
    Trainer(config, MemoryPrepared(), Console(quiet=True)).train(extra_callbacks=[Record()])
    np.testing.assert_allclose(rates[:6], [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-6)
    # The first epoch sets the best; none improves on it by 10, so each further one halves.
    np.testing.assert_allclose(rates[10::10], [0.4, 0.2, 0.1], rtol=1e-6)


def test_tensorboard_log_holds_the_history(tmp_path):
    import tensorflow as tf

    result = train(tmp_path / "r", training={"epochs": 2, "tensorboard": True})
    (events,) = (tmp_path / "r/tensorboard").glob("events*")
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(events)):
        for value in event.summary.value:
            found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found["validation/auc", 2] == pytest.approx(result.history[1]["val_auc"], rel=1e-6)
    assert found["train/loss", 1] == pytest.approx(result.history[0]["loss"], rel=1e-6)
