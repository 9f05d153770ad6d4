"""Trains the tiny run in a process of its own; the tests kill it or compare its weights.

python -m tests.pipeline.train_worker OUTPUT [--resume] [--kill-at STEP] [--model NAME] [--disk]
    [--strategy NAME] [--tables dense|sparse] [--dropout RATE] [--rows N] [--prepared FOLDER]
    [--steps-per-execution N] [--begin-with WEIGHTS.npz] [--jit] [--average]
"""

import argparse
import os
import signal
from pathlib import Path

import keras
import numpy as np


class KillAt(keras.callbacks.Callback):
    """SIGKILL to this very process after so many steps: no handler, no clean-up."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def on_train_batch_end(self, batch, logs=None):
        self._left -= self.model.steps_per_execution
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


class BeginWith(keras.callbacks.Callback):
    """The model's weights from a file in place of its own first ones."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_train_begin(self, logs=None):
        with np.load(self._path) as arrays:
            self.model.set_weights([arrays[name] for name in arrays.files])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--model", default="afm")
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--strategy", default="none")
    parser.add_argument("--tables", default="auto")
    parser.add_argument("--steps-per-execution", type=int)
    parser.add_argument("--prepared", type=Path, help="a prepared dataset, read from disk")
    parser.add_argument("--begin-with", type=Path, help="the model's first weights, in order")
    parser.add_argument("--jit", action="store_true", help="compile the step")
    parser.add_argument("--average", action="store_true", help="average the weights")
    arguments = parser.parse_args()

    from pipeline.train import Trainer
    from preprocessing.prepared import PreparedDataset
    from tests.pipeline.support import MemoryPrepared, run_config

    config = run_config(
        arguments.output,
        model={"name": arguments.model, "dropout": arguments.dropout},
        optimizer={
            "tables": arguments.tables,
            "use_ema": arguments.average,
            "ema_momentum": 0.9,
        },
        strategy={"name": arguments.strategy, "devices": 2},
        data={"in_memory": not (arguments.disk or arguments.prepared)},
        training={
            "epochs": 3,
            # A warm-up takes single steps.
            "warmup_steps": 0 if arguments.steps_per_execution else 13,
            "steps_per_execution": arguments.steps_per_execution or "auto",
            "checkpoint": {"every_steps": 4},
            "reduce_lr": {"metric": "logloss", "patience": 1},
            "jit_compile": arguments.jit,
        },
    )
    extra = [KillAt(arguments.kill_at)] if arguments.kill_at else []
    if arguments.begin_with:
        extra.append(BeginWith(arguments.begin_with))
    prepared = MemoryPrepared(rows=arguments.rows)
    if arguments.prepared:
        prepared = PreparedDataset.load(arguments.prepared)
    Trainer(config, prepared).train(resume=arguments.resume, extra_callbacks=extra)


if __name__ == "__main__":
    main()
