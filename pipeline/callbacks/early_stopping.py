"""Stop when a validation metric no longer improves; the best weights stay on disk."""

from pathlib import Path
from typing import Any

from pipeline import checkpoint
from pipeline.callbacks.base import StatefulCallback, improves, validation_value


class EarlyStopping(StatefulCallback):
    """Keeps the model's best variables in `path` and restores them when training ends.

    Args:
        path: file of the best weights.
        metric: validation metric, without the prefix `val_`.
        patience: epochs without improvement before training stops; None never stops.
        min_delta: smallest change that counts.
        start_from_epoch: epochs before it do not count as waited for.
    """

    remembered = ("best", "best_epoch", "waited")

    def __init__(
        self,
        path: Path,
        metric: str,
        patience: int | None,
        min_delta: float = 0.0,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.path = path
        self.metric = metric
        self.patience = patience
        self.min_delta = min_delta
        self.start_from_epoch = start_from_epoch
        self.best: float | None = None
        self.best_epoch = -1
        self.waited = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        value = validation_value(logs, self.metric, "training.early_stopping.metric")
        if improves(self.metric, value, self.best, self.min_delta):
            self.best, self.best_epoch, self.waited = value, epoch, 0
            checkpoint.save(self.path, checkpoint.snapshot(self._variables()), {"epoch": epoch})
        elif epoch >= self.start_from_epoch:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                self.model.stop_training = True

    def restore_best(self) -> None:
        """Put the best epoch's variables back into the model."""
        if self.best is not None:
            checkpoint.restore(self.path, self._variables())

    def _variables(self) -> dict[str, Any]:
        return {f"model/{i:04d}": v for i, v in enumerate(self.model.variables)}
