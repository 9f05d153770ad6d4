"""The moving averages of tables that are updated by row, at the cost of the rows a step touches."""

import math
from typing import Any

import tensorflow as tf

from models.optimizers.rows import beside_rows, native


class RowAverages:
    """Keras's `use_ema` for a table's rows.

        a <- m a + (1 - m) w,    a = w at the first step

    happens at every step, but while a row stands still at w, k steps come to

        a <- w + m^k (a - w)

    so that a row's average can wait until the row moves, or the averages are read. One counter a
    row says up to which step its average is; 0 where the row has not moved yet, when a = w.

    Args:
        momentum: m.
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self._averages: list[Any] = []
        self._steps: list[Any] = []
        self._moved: set[int] = set()

    def build(self, averages: list[Any], steps: list[Any]) -> None:
        """Takes the optimizer's variables: the averages of all weights, and a counter a row."""
        self._averages, self._steps = averages, steps

    def slots(self, index: int) -> list[Any]:
        """Average and counter of weight number `index`, whose rows are about to move."""
        self._moved.add(index)
        return [self._averages[index], self._steps[index]]

    def holds(self, index: int) -> bool:
        """Whether weight number `index` has its average here: it has been updated by row."""
        return index in self._moved

    def moved(
        self, before: tf.Tensor, after: tf.Tensor, slots: list[tf.Tensor], step: tf.Tensor
    ) -> list[tf.Tensor]:
        """The slots of rows that move.

        Args:
            before, after: rows (U, ...) as they stood since they moved last, and as of `step`.
            slots: their averages (U, ...) and counters (U,).
            step: number of the step, from 1.
        """
        average = self._waited(before, slots, step - 1)
        share = tf.where(step == 1, 0.0, tf.cast(self.momentum, after.dtype))
        return [after + share * (average - after), tf.fill(tf.shape(slots[1]), step)]

    def catch_up(self, table: Any, index: int, step: tf.Tensor) -> None:
        """Brings the averages of all rows of weight number `index` to `step`."""
        average, last = self._averages[index], self._steps[index]
        slots = [tf.convert_to_tensor(native(slot)) for slot in (average, last)]
        average.assign(self._waited(tf.convert_to_tensor(native(table)), slots, step))
        last.assign(tf.fill(tf.shape(slots[1]), step))

    def _waited(self, rows: tf.Tensor, slots: list[tf.Tensor], step: tf.Tensor) -> tf.Tensor:
        """Averages as of `step` of rows that have not moved since their counters' steps."""
        average, last = slots
        waited = tf.cast(step - last, rows.dtype)
        # XLA computes this for each entry of a row: an exponential is done in vectors, a power not.
        share = tf.where(last == 0, 0.0, tf.exp(waited * math.log(max(self.momentum, 1e-30))))
        return rows + beside_rows(share, rows) * (average - rows)
