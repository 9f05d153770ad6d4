"""A progress bar with rate and time left, or one line an epoch where there is no terminal."""

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.callbacks.position import Position

REFRESH_SECONDS = 0.2


class Progress(keras.callbacks.Callback):
    """Shows epoch, step, loss, examples/s and time left to the last epoch.

    Args:
        console: where to print.
        position: the step count.
        epochs: epochs in all.
        batch_size: rows a step.
        shown: validation metrics printed after each epoch.
    """

    def __init__(
        self,
        console: Console,
        position: Position,
        epochs: int,
        batch_size: int,
        shown: tuple[str, ...] = ("auc", "logloss", "rmse"),
    ) -> None:
        super().__init__()
        self._console = console
        self._epochs = epochs
        self._position = position
        self._steps = position.steps_per_epoch
        self._batch = batch_size
        self._shown = shown
        self._bar: Bar | None = None
        self._task: Any = None
        self._next = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begun = time.perf_counter()
        if self._console.is_terminal and self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[rate]:,.0f} examples/s  loss {task.fields[loss]:.4f}"),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(
                "",
                total=self._epochs * self._steps,
                completed=self._position.step,
                rate=0.0,
                loss=0.0,
            )
            self._bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        now = time.perf_counter()
        if self._bar is None or now < self._next:
            return
        self._next = now + REFRESH_SECONDS
        at = self._position
        self._bar.update(
            self._task,
            completed=at.step,
            description=f"epoch {at.epoch + 1}/{self._epochs}  step {at.batch}/{self._steps}",
            rate=(batch + 1) * self._batch / (now - self._begun),
            loss=logs["loss"],
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        parts = [f"epoch {epoch + 1}/{self._epochs}", f"loss {logs['loss']:.4f}"]
        parts += [f"val {n} {logs[f'val_{n}']:.4f}" for n in self._shown if f"val_{n}" in logs]
        parts.append(f"{logs['examples_per_second']:,.0f} examples/s")
        parts.append(f"{logs['seconds']:.1f} s")
        self._console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar down; safe to call twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
