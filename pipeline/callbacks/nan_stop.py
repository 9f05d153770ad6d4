"""Stop at the first loss that is not a number."""

import math
from pathlib import Path
from typing import Any

import keras

from pipeline.callbacks.position import Position
from pipeline.errors import PipelineError


class NonFiniteLossError(PipelineError):
    """Training has diverged: its loss, a weight or an output is NaN or infinite.

    Args:
        what: is no finite number.
        position: when.
        checkpoints: directory of those that are still good.
        among: said of the step.
    """

    def __init__(self, what: str, position: Position, checkpoints: Path, among: str = "") -> None:
        kept = sorted(checkpoints.glob("step-*.npz"))
        good = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was written"
        super().__init__(
            f"{what} at step {position.step}{among} "
            f"(epoch {position.epoch + 1}, batch {position.batch}); "
            f"{good}; lower optimizer.learning_rate or set optimizer.global_clipnorm"
        )


class NanStop(keras.callbacks.Callback):
    """Raises NonFiniteLossError naming step, epoch and batch; checkpoints stay as they were.

    Where one call takes several steps it names the last of them, and their number.

    Args:
        checkpoints: directory named in the message.
        position: the step count.
    """

    def __init__(self, checkpoints: Path, position: Position) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._position = position

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        loss = logs["loss"]
        if math.isfinite(loss):
            return
        steps = self.model.steps_per_execution
        among = f" or one of the {steps - 1} before" if steps > 1 else ""
        raise NonFiniteLossError(
            f"the loss became {loss}", self._position, self._checkpoints, among
        )
