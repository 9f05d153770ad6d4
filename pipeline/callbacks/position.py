"""Where training stands; the other callbacks read it rather than count for themselves."""

from typing import Any

import keras


class Position(keras.callbacks.Callback):
    """Counts steps over all epochs, across resumes. Must stand first.

    Args:
        steps_per_epoch: batches a whole epoch.
        step: steps already done.
    """

    def __init__(self, steps_per_epoch: int, step: int = 0) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.step = step
        self._before = step

    @property
    def epoch(self) -> int:
        """Epoch of the last step, from 0."""
        return max(self.step - 1, 0) // self.steps_per_epoch

    @property
    def batch(self) -> int:
        """Batches done of that epoch."""
        return self.step - self.epoch * self.steps_per_epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self.step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step = self._before + batch + 1
