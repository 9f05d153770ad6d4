"""Learning rate over time: linear warm-up, and reduction on a plateau."""

from typing import Any

import keras

from pipeline.callbacks.base import StatefulCallback, improves, validation_value
from pipeline.callbacks.position import Position
from pipeline.variables import learning_rate


class WarmUp(keras.callbacks.Callback):
    """The learning rate rises linearly over the first steps: lr * (step + 1) / steps.

    With several steps per execution the rate changes once an execution.
    """

    def __init__(self, steps: int, learning_rate: float, position: Position) -> None:
        super().__init__()
        self.steps = steps
        self.learning_rate = learning_rate
        self._position = position

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # One step beyond the last warm-up step sets the full rate; after that it is left alone.
        if self._position.step <= self.steps:
            share = min(1.0, (self._position.step + 1) / self.steps)
            self.model.optimizer.learning_rate = self.learning_rate * share


class ReduceLearningRate(StatefulCallback):
    """Multiplies the learning rate by `factor` after `patience` epochs without improvement."""

    remembered = ("best", "waited")

    def __init__(
        self, metric: str, factor: float, patience: int, min_delta: float, minimum: float
    ) -> None:
        super().__init__()
        self.metric = metric
        self.factor = factor
        self.patience = patience
        self.min_delta = min_delta
        self.minimum = minimum
        self.best: float | None = None
        self.waited = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        value = validation_value(logs, self.metric, "training.reduce_lr.metric")
        if improves(self.metric, value, self.best, self.min_delta):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            current = learning_rate(self.model.optimizer)
            self.model.optimizer.learning_rate = max(current * self.factor, self.minimum)
