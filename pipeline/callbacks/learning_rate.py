"""Learning rate over time: linear warm-up, and reduction on a plateau."""

from typing import Any

import keras

from pipeline.callbacks.base import PlateauCallback
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


class ReduceLearningRate(PlateauCallback):
    """Multiplies the learning rate by `factor` on a plateau, down to `minimum`.

    Args:
        watched: as PlateauCallback takes them.
    """

    key = "training.reduce_lr.metric"

    def __init__(self, factor: float, minimum: float, **watched: Any) -> None:
        super().__init__(**watched)
        self.factor = factor
        self.minimum = minimum

    def on_plateau(self) -> None:
        current = learning_rate(self.model.optimizer)
        self.model.optimizer.learning_rate = max(current * self.factor, self.minimum)
