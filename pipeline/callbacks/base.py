"""Keras callbacks whose memory goes into the checkpoint: any, and those that await a plateau."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from pipeline.config import METRICS
from pipeline.errors import PipelineError


class StatefulCallback(keras.callbacks.Callback):
    """Names the attributes that must survive a kill; they are plain JSON values."""

    remembered: tuple[str, ...] = ()

    def get_state(self) -> dict[str, Any]:
        """The memory to checkpoint."""
        return {name: getattr(self, name) for name in self.remembered}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back the memory of a checkpoint."""
        for name in self.remembered:
            setattr(self, name, state[name])


def validation_value(logs: Mapping[str, float], metric: str, key: str) -> float:
    """An epoch's validation metric.

    Args:
        logs: of the epoch's end.
        metric: without the prefix `val_`.
        key: of the configuration, which asks for the metric; for the message.

    Raises:
        PipelineError: the split has none, as `gauc` without groups or without one of both labels.
    """
    value = logs.get(f"val_{metric}", math.nan)
    if math.isnan(value):
        have = [name[4:] for name, v in logs.items() if name[:4] == "val_" and not math.isnan(v)]
        raise PipelineError(
            f"{key}: the validation split gives no {metric!r} (it gives {', '.join(have)})"
        )
    return float(value)


def improves(metric: str, value: float, best: float | None, min_delta: float) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`, in the metric's direction."""
    if best is None:
        return True
    return value > best + min_delta if METRICS[metric] else value < best - min_delta


class PlateauCallback(StatefulCallback):
    """Waits for a validation metric to improve; what follows is its subclass's matter.

    Args:
        metric: without the prefix `val_`.
        patience: epochs without improvement that make a plateau; None waits for ever.
        min_delta: smallest change that counts.
        start_from_epoch: epochs before it do not count as waited for.
    """

    remembered = ("best", "waited")
    key: str  # of the configuration, that asks for the metric; for the message where there is none

    def __init__(
        self,
        metric: str,
        patience: int | None,
        min_delta: float = 0.0,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.patience = patience
        self.min_delta = min_delta
        self.start_from_epoch = start_from_epoch
        self.best: float | None = None
        self.waited = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        value = validation_value(logs, self.metric, self.key)
        if improves(self.metric, value, self.best, self.min_delta):
            self.best, self.waited = value, 0
            self.on_improvement(epoch)
        elif epoch >= self.start_from_epoch:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                self.waited = 0
                self.on_plateau()

    def on_improvement(self, epoch: int) -> None:
        """The metric is better than in every epoch before."""

    def on_plateau(self) -> None:
        """The metric has not improved for `patience` epochs; counting begins anew."""
        raise NotImplementedError
