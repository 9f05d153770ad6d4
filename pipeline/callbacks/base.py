"""A Keras callback whose memory goes into the checkpoint."""

from typing import Any

import keras

from pipeline.config import METRICS


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


def improves(metric: str, value: float, best: float | None, min_delta: float) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`, in the metric's direction."""
    if best is None:
        return True
    return value > best + min_delta if METRICS[metric] else value < best - min_delta
