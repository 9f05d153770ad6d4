"""The trainer and `reproduce` on Keras's JAX backend: by the same rules as on TensorFlow."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from models.optimizers import FTRL, SparseAdagrad, SparseAdam, SparseSGD
from pipeline.errors import PipelineError
from pipeline.evaluation import evaluate_run
from pipeline.publish import export_run
from pipeline.rundir import Run
from tests.pipeline.support import MemoryPrepared, assert_bit_equal, train, weights
from tests.support.optimizer_steps import OPTIONS, after_steps

if importlib.util.find_spec("jax") is None:
    pytest.skip("jax is not installed (pip install jax)", allow_module_level=True)

ROOT = Path(__file__).parents[2]
ON_TENSORFLOW = {"adam": SparseAdam, "adagrad": SparseAdagrad, "sgd": SparseSGD, "ftrl": FTRL}


def on_tensorflow(module, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def on_jax(module, *arguments):
    return on_tensorflow(module, *arguments, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")


def test_trains_an_fm_to_the_weights_that_tensorflow_gives_it(tmp_path):
    """From the same beginning, without dropout: nothing is left to the backend's random numbers."""
    train(tmp_path / "first", training={"epochs": 1})
    began = weights(tmp_path / "first")
    np.savez(tmp_path / "first.npz", *began)
    same = ["--begin-with", tmp_path / "first.npz", "--model", "fm", "--dropout", 0, "--jit"]
    same += ["--average"]  # averages depend on the weights of all steps
    for folder, worker in (("jax", on_jax), ("tensorflow", on_tensorflow)):
        done = worker("tests.pipeline.train_worker", tmp_path / folder, "--tables", "dense", *same)
        assert done.returncode == 0, done.stderr
    found, expected = weights(tmp_path / "jax"), weights(tmp_path / "tensorflow")
    assert max(np.abs(a - b).max() for a, b in zip(began, expected, strict=True)) > 0.1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


# 10 steps an epoch, a checkpoint every 4; the learning rate warms up over 13 steps.
@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    def worker(folder, *arguments):
        return on_jax("tests.pipeline.train_worker", tmp_path / folder, "--jit", *arguments)

    whole = worker("whole")
    assert whole.returncode == 0, whole.stderr
    killed = worker("run", "--kill-at", 17)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = worker("run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step 14" in resumed.stderr
    assert_bit_equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


@pytest.fixture(scope="module")
def steps_on_jax(tmp_path_factory):
    path = tmp_path_factory.mktemp("jax") / "weights.npz"
    done = on_jax("tests.support.optimizer_steps", path)
    assert done.returncode == 0, done.stderr
    return np.load(path)


@pytest.mark.parametrize("name", ON_TENSORFLOW)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_optimizer_takes_the_same_steps(steps_on_jax, name, options):
    expected = after_steps(ON_TENSORFLOW[name], OPTIONS[options] | {"table_update": "whole"})
    for place, want in enumerate(expected):
        got = steps_on_jax[f"{name}/{options}/{place}"]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_table_is_reproduced_and_its_model_scores_the_same_on_tensorflow(tmp_path):
    done = on_jax("tests.pipeline.reproduce_worker", tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())
    assert set(record["versions"]) == {"jax", "keras"}
    assert record["test"]["auc"] > 0.6
    assert np.shape(record["pairs"]["order_2_weights"]) == (3, 3)
    run = Run.load(tmp_path / "runs" / "tiny" / "fm-1")
    again = evaluate_run(run, "test", MemoryPrepared(), plots=False)["test"]
    assert again["logloss"] == pytest.approx(record["test"]["logloss"], abs=1e-5)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"optimizer": {"tables": "sparse"}}, "tables: an update by row needs the TensorFlow"),
        ({"optimizer": {"exact": True}}, "optimizer.exact: unknown key"),
        ({"strategy": {"name": "mirrored"}}, "strategy.name: mirrored needs the TensorFlow"),
    ],
)
def test_what_only_tensorflow_has_is_refused(tmp_path, monkeypatch, sections, told):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(PipelineError, match=told):
        train(tmp_path / "run", **sections)
    assert not (tmp_path / "run").exists()


def test_a_saved_model_is_refused(tmp_path, monkeypatch):
    run = train(tmp_path / "run", training={"epochs": 1}).run
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(PipelineError, match="a SavedModel is made on tensorflow, this is jax"):
        export_run(run, MemoryPrepared())
