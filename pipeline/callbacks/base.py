"""A Keras callback whose memory goes into the checkpoint."""

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
