"""The steps a row of a table sat out, in closed form: what makes `SparseAdam` exact."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from models.optimizers.rows import add_rows, beside_rows, gather_rows, write_rows

_HISTORY = 1 << 16
_NEGLIGIBLE = 1e-9


class SkippedSteps:
    """Applies k Adam steps without gradient to a row at once.

    With s_t the step size (bias corrections included) at step t, a row last updated at step t0
    moves, by Adam's rule with g = 0, over the k steps that follow by

        sum_{j=1..k} s_{t0+j} b1^j m / (b2^(j/2) sqrt(v) + epsilon)
            ~ m / (sqrt(v) + epsilon) * (S1 - S2 * epsilon / (sqrt(v) + epsilon))
        S1 = sum_j s_{t0+j} r^j,    S2 = sum_j s_{t0+j} r^j (q^-j - 1),    q = sqrt(b2), r = b1 / q

    to second order in epsilon (q^-j - 1) / (sqrt(v) + epsilon), a few 1e-5 of the move itself for
    the usual betas. The sums depend on t0 alone, not on the row: they are kept for the last 65,536
    values of t0, and a step adds its share to those among them where r^j still counts. A row away
    for longer takes the step sizes of 65,536 steps ago for those of its own time.

    Args:
        beta_1, beta_2, epsilon: of Adam.

    Raises:
        ValueError: beta_1 >= sqrt(beta_2): the sums diverge; or so near that they converge slower
            than 65,536 steps.
    """

    def __init__(self, beta_1: float, beta_2: float, epsilon: float) -> None:
        root = math.sqrt(beta_2)
        if not beta_1 < root:
            raise ValueError(
                f"exact Adam needs beta_1 < sqrt(beta_2), got beta_1={beta_1}, beta_2={beta_2}"
            )
        ratio = beta_1 / root
        reach = math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio)) if ratio > 0 else 1
        if reach >= _HISTORY:
            raise ValueError(f"exact Adam: beta_1={beta_1} is too near sqrt(beta_2)={root}")
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        ages = range(1, reach + 1)
        self._weights = [[ratio**j, ratio**j * (root**-j - 1.0)] for j in ages]

    def build(self, add_variable: Callable[..., Any]) -> None:
        """Creates the history through the optimizer's `add_variable`."""
        self._sums = add_variable((_HISTORY, 2), "zeros", "float32", name="skipped_sums")

    def record(self, size: tf.Tensor, step: tf.Tensor) -> None:
        """Notes that step number `step` (from 1) had step size `size`."""
        weights = tf.constant(self._weights, tf.float32)
        starts = step - tf.range(1, weights.shape[0] + 1)
        # Before the first step there was none to note: zero is added to some other entry.
        weights = tf.where(tf.reshape(starts >= 0, [-1, 1]), weights, 0.0)
        add_rows(self._sums, tf.math.floormod(starts, _HISTORY), size * weights)
        write_rows(self._sums, tf.reshape(step % _HISTORY, [1]), tf.zeros((1, 2)))

    def apply(
        self, weights: tf.Tensor, m: tf.Tensor, v: tf.Tensor, last: tf.Tensor, now: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Brings rows from step `last` (U,) to step `now`.

        Args:
            weights, m, v: (U, ...), as of step `last`.
            now: number of the last step taken.

        Returns:
            weights, m, v as of step `now`.
        """
        oldest = tf.maximum(last, now - (_HISTORY - 1))
        sums = gather_rows(self._sums, tf.math.floormod(oldest, _HISTORY))
        first, second = (beside_rows(sums[:, i], m) for i in range(2))
        root = tf.sqrt(v) + self.epsilon
        moved = weights - m / root * (first - second * (self.epsilon / root))
        skipped = beside_rows(tf.cast(now - last, m.dtype), m)
        return moved, m * tf.pow(self.beta_1, skipped), v * tf.pow(self.beta_2, skipped)
