"""Write the training state often enough, and take the running metrics back after a resume."""

from typing import Any

import keras
import numpy as np

from pipeline.callbacks.base import StatefulCallback
from pipeline.callbacks.nan_stop import NonFiniteLossError
from pipeline.callbacks.position import Position
from pipeline.checkpoint import CheckpointDirectory, snapshot, training_variables


class Checkpointing(keras.callbacks.Callback):
    """Writes a checkpoint at each epoch's end and, if asked, every so many steps.

    It must stand last: the state it writes includes what the other callbacks did. Raises
    NonFiniteLossError instead of writing weights that are not finite.

    Args:
        directory: where the checkpoints go.
        position: the step count.
        callbacks: those whose memory is part of the state, by name.
        every_steps: steps between checkpoints within an epoch; None for none.
        writes: whether this worker writes the file; all of them take part in the reading.
    """

    def __init__(
        self,
        directory: CheckpointDirectory,
        position: Position,
        callbacks: dict[str, StatefulCallback],
        every_steps: int | None,
        writes: bool = True,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._position = position
        self._callbacks = callbacks
        self._every_steps = every_steps
        self._writes = writes
        self._written = position.step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self._position.step
        due = self._every_steps and step - self._written >= self._every_steps
        # The epoch's end writes its own, after validation.
        if due and step % self._position.steps_per_epoch:
            self._write(finished=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._write(finished=bool(self.model.stop_training))

    def _write(self, finished: bool) -> None:
        state = {
            "step": self._position.step,
            "finished": finished,
            "callbacks": {name: item.get_state() for name, item in self._callbacks.items()},
        }
        arrays = snapshot(training_variables(self.model))
        weights = (array for name, array in arrays.items() if name.startswith("model/"))
        # A step's loss is that of the weights before it: these may be no numbers under a good loss.
        if not all(np.isfinite(array).all() for array in weights):
            where = self._directory.directory
            raise NonFiniteLossError("the weights are no longer finite", self._position, where)
        if self._writes:
            self._directory.save(self._position.step, arrays, state)
        self._written = self._position.step


class RestoreMetrics(keras.callbacks.Callback):
    """Puts the running training metrics of a checkpoint back after Keras has reset them.

    So the training loss of an epoch that was cut in two is the mean over the whole of it.
    """

    def __init__(self, values: list[np.ndarray]) -> None:
        super().__init__()
        self._values: list[np.ndarray] | None = values

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._values is not None:
            for variable, value in zip(self.model.metrics_variables, self._values, strict=True):
                variable.assign(value)
            self._values = None
