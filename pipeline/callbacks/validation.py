"""Metrics of the whole validation split after every epoch."""

import time
from collections.abc import Callable
from typing import Any

import keras

from pipeline.variables import learning_rate


class Validation(keras.callbacks.Callback):
    """Adds `val_<metric>` and the epoch's seconds and rate to the logs, for those that follow.

    Args:
        evaluate: gives the metrics of the validation split for the current weights.
        rows: training rows an epoch, for the rate.
    """

    def __init__(self, evaluate: Callable[[], dict[str, float]], rows: int) -> None:
        super().__init__()
        self._evaluate = evaluate
        self._rows = rows
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        seconds = time.perf_counter() - self._begun
        # Keras hands every callback the same dict: what is added here the later ones see.
        logs["learning_rate"] = learning_rate(self.model.optimizer)
        logs["seconds"] = seconds
        logs["examples_per_second"] = self._rows / seconds
        logs.update({f"val_{name}": value for name, value in self._evaluate().items()})
