"""What stops a training run, and what it leaves behind."""

from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from pipeline.checkpoint import CheckpointDirectory, restore, training_variables
from pipeline.config import parse_config
from pipeline.errors import PipelineError
from pipeline.model import compiled_model
from pipeline.train import Trainer
from tests.pipeline.support import MemoryPrepared, run_config, train


def test_nan_loss_stops_at_its_step_and_keeps_the_checkpoint(tmp_path):
    prepared = MemoryPrepared()
    config = run_config(
        tmp_path / "r", training={"shuffle": False, "checkpoint": {"every_steps": 2}}
    )
    prepared.arrays("train")["values"][128 * 4 + 7] = np.nan
    with pytest.raises(PipelineError, match=r"step 5 \(epoch 1, batch 5\).*step-000000004.npz"):
        Trainer(config, prepared, Console(quiet=True)).train()
    model = compiled_model(config, prepared, 10, 1, Console(quiet=True))
    path = CheckpointDirectory(tmp_path / "r" / "checkpoints").paths()[-1]
    assert restore(path, training_variables(model))["step"] == 4
    assert all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in model.variables)


def test_weights_that_are_no_numbers_are_not_checkpointed(tmp_path):
    """The loss of a step is that of the weights before it."""

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.model.trainable_variables[0].assign_add([np.inf])

    config = run_config(tmp_path / "r", training={"checkpoint": {"every_steps": 2}})
    trainer = Trainer(config, MemoryPrepared(), Console(quiet=True))
    where = r"weights are no longer finite at step 4 \(.*last good .*step-000000002.npz"
    with pytest.raises(PipelineError, match=where):
        trainer.train(extra_callbacks=[Spoil()])


def test_outputs_that_are_no_numbers_name_the_step(tmp_path):
    prepared = MemoryPrepared()
    prepared.arrays("validation")["values"][7] = np.nan
    with pytest.raises(PipelineError, match=r"validation split: .* in row 7 at step 10 \(epoch 1,"):
        train(tmp_path / "r", prepared)


def test_a_loss_that_is_no_number_names_the_steps_of_its_call(tmp_path):
    prepared = MemoryPrepared()
    prepared.arrays("train")["values"][128 * 3] = np.nan
    training = {"shuffle": False, "steps_per_execution": 5}
    with pytest.raises(PipelineError, match=r"step 5 or one of the 4 before \(epoch 1, batch 5\)"):
        train(tmp_path / "r", prepared, training=training)


@pytest.mark.parametrize("counted", [True, False])
def test_single_class_validation_is_named(tmp_path, counted):
    prepared = MemoryPrepared()
    prepared.arrays("validation")["label"][:] = 0
    if counted:
        prepared.manifest["splits"]["validation"]["positives"] = 0
    with pytest.raises(PipelineError, match=r"validation split of .* labels are 0"):
        train(tmp_path / "r", prepared)
    assert (tmp_path / "r").exists() != counted, "what the manifest tells is told before training"


def test_a_validation_split_without_rows_is_named(tmp_path):
    prepared = MemoryPrepared()
    prepared.manifest["splits"]["validation"] = {"rows": 0, "positives": 0, "files": []}
    with pytest.raises(PipelineError, match="validation split of memory: no rows"):
        train(tmp_path / "r", prepared)


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"model": {"name": "afn+x"}}, "unknown model"),
        ({"model": {"dropuot": 3}}, "did you mean 'dropout'"),
        ({"model": {"embedding_dim": "four"}}, "model 'fm' with .*'four'"),
        ({"optimizer": {"name": "adan"}}, "'adam'"),
        ({"optimizer": {"beta1": 0.9}}, "'beta_1'"),
        ({"optimizer": {"beta_1": "high"}}, "optimizer.beta_1: 'high' is text"),
        ({"optimizer": {"global_clipnorm": -1}}, "optimizer.global_clipnorm: must not be negative"),
        ({"optimizer": {"ema_momentum": 1.0}}, "optimizer.ema_momentum: at 1 averages stay"),
        ({"optimizer": {"clipnorm": 1, "clipvalue": 1}}, "optimizer 'adam': Only one of"),
    ],
)
def test_mistakes_are_one_line_and_leave_an_earlier_run_alone(tmp_path, sections, part):
    kept = tmp_path / "r" / "model.keras"
    kept.parent.mkdir()
    kept.write_text("an earlier run's")
    with pytest.raises(ValueError, match=part) as caught:
        train(tmp_path / "r", **sections)
    assert "\n" not in str(caught.value)
    assert kept.read_text() == "an earlier run's"


@pytest.mark.parametrize("key", ["early_stopping", "reduce_lr"])
def test_a_metric_the_split_does_not_give_is_named(tmp_path, key):
    prepared = MemoryPrepared()
    del prepared.arrays("validation")["group"]
    with pytest.raises(
        PipelineError, match=rf"training.{key}.metric: .* no 'gauc' \(it gives auc,"
    ):
        train(tmp_path / "r", prepared, training={key: {"metric": "gauc"}})


def test_a_log_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "tensorboard").write_text("no folder")
    with pytest.raises(OSError, match=r"r/tensorboard: Not a directory"):
        train(tmp_path / "r", training={"tensorboard": True})


def test_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    from pipeline import checkpoint

    written = np.savez
    calls = []

    def full(path, **arrays):
        calls.append(path)
        if len(calls) > 3:
            Path(path).write_bytes(b"cut")
            raise OSError(28, "No space left on device")
        written(path, **arrays)

    monkeypatch.setattr(checkpoint.np, "savez", full)
    with pytest.raises(OSError, match="No space left") as caught:
        train(tmp_path / "r")
    assert Path(caught.value.filename).parent == tmp_path / "r" / "checkpoints"
    directory = tmp_path / "r" / "checkpoints"
    assert [path.name for path in CheckpointDirectory(directory).paths()]
    assert all(np.load(path) for path in directory.glob("*.npz"))


def test_unknown_configuration_name_of_a_shipped_file():
    with pytest.raises(PipelineError, match="unknown key"):
        parse_config({"name": "a", "data": {"spec": "x", "paths": 1}, "model": {"name": "fm"}}, "t")
