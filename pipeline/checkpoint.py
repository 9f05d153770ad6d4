"""The full training state in one file, so that a killed run goes on exactly where it was.

A checkpoint holds every variable of the model (weights, batch-norm statistics, the random seeds'
counters), of the optimizer (moments, step count, learning rate) and of the running training
metrics, and a JSON state: epoch, step within the epoch, history, and the memory of the callbacks.
It is an uncompressed `.npz` written aside and renamed: a kill while writing leaves the older ones.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.variables import to_numpy

_STATE = "state"


def training_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable that training changes, by group and place.

    Not by Keras's names, which count the models a process has built.
    """
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}/{index:04d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def snapshot(variables: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """The values now. With several workers all of them must call it: metrics are summed up."""
    return {name: to_numpy(variable) for name, variable in variables.items()}


def save(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    """Write a snapshot and a state to `path`."""
    encoded = np.frombuffer(json.dumps(state).encode(), np.uint8)
    with replacing(path) as aside:
        np.savez(aside, **arrays, **{_STATE: encoded})


def restore(path: Path, variables: dict[str, keras.Variable]) -> dict[str, Any]:
    """Assign the variables from `path` and return the state.

    Raises PipelineError where the file is damaged or belongs to another model.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = set(arrays.files) - {_STATE}
            if names != set(variables):
                odd = sorted(names ^ set(variables))[0]
                raise PipelineError(f"{path}: not a checkpoint of this model (variable {odd})")
            for name, variable in variables.items():
                value = arrays[name]
                if value.shape != tuple(variable.shape):
                    raise PipelineError(
                        f"{path}: {name} has shape {value.shape}, "
                        f"the model's has {tuple(variable.shape)}"
                    )
                variable.assign(value)
            return json.loads(arrays[_STATE].tobytes())
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise PipelineError(f"{path}: damaged checkpoint ({error})") from error


class CheckpointDirectory:
    """The numbered checkpoints of a run, newest last; older ones beyond `keep` are removed."""

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep

    def paths(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.directory.glob("step-*.npz"))

    def save(self, step: int, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> Path:
        """Write the checkpoint of `step` and prune."""
        path = self.directory / f"step-{step:09d}.npz"
        save(path, arrays, state)
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def clear(self) -> None:
        """Remove everything: a new run begins."""
        for path in self.directory.glob("*.npz"):
            path.unlink()
