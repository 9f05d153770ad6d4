"""Stop when a validation metric no longer improves; the best weights stay on disk."""

from pathlib import Path
from typing import Any

from pipeline import checkpoint
from pipeline.callbacks.base import PlateauCallback


class EarlyStopping(PlateauCallback):
    """Keeps the model's best variables in `path` and restores them when training ends.

    Args:
        path: file of the best weights.
        watched: as PlateauCallback takes them.
    """

    key = "training.early_stopping.metric"
    remembered = (*PlateauCallback.remembered, "best_epoch")

    def __init__(self, path: Path, **watched: Any) -> None:
        super().__init__(**watched)
        self.path = path
        self.best_epoch = -1

    def on_improvement(self, epoch: int) -> None:
        self.best_epoch = epoch
        checkpoint.save(self.path, checkpoint.snapshot(self._variables()), {"epoch": epoch})

    def on_plateau(self) -> None:
        self.model.stop_training = True

    def restore_best(self) -> None:
        """Put the best epoch's variables back into the model."""
        if self.best is not None:
            checkpoint.restore(self.path, self._variables())

    def _variables(self) -> dict[str, Any]:
        return {f"model/{i:04d}": v for i, v in enumerate(self.model.variables)}
