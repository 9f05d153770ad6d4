"""Adam for big tables, lazy or exact."""

from typing import Any

import keras
import tensorflow as tf

from models.optimizers.row_sparse import RowSparse
from models.optimizers.rows import gather_rows
from models.optimizers.skipped_steps import SkippedSteps


@keras.saving.register_keras_serializable(package="ctr")
class SparseAdam(RowSparse, keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015) that touches only the batch's rows of a table.

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
        w <- w - lr_t * m / (sqrt(v) + epsilon),    lr_t = lr * sqrt(1 - b2^t) / (1 - b1^t)

    *Lazy* (the default): a row's moments neither decay nor move the row in steps whose batch lacks
    it; t counts all steps. Rare rows keep their full momentum, which most find helpful, but it is
    not `keras.optimizers.Adam`.

    *Exact*: when a row returns, the steps it skipped are applied first, in closed form (see
    `SkippedSteps`), so that given the same gradients the weights are those of
    `keras.optimizers.Adam`. It costs one counter per row. The forward pass, however, looks a row
    up before the optimizer sees the batch: call `catch_up(table, ids)` before it to have it read
    the moved rows too (neither `fit` nor the pipeline's trainer does, so that training with either
    is near Keras's Adam, not equal). `finalize_variable_values`, which `fit` calls at its end,
    brings every row up to date; do so with `catch_up(table)` before evaluating or saving in
    between.

    Args:
        exact: whether skipped steps are made up for. Not under `tf.distribute`.
        learning_rate, beta_1, beta_2, epsilon, ...: Keras's (no `amsgrad`), and `RowSparse`'s.

    Raises:
        ValueError: `amsgrad`; `exact` with `use_ema`, whose averages would take in rows that are
            behind; or `exact` with beta_1 >= sqrt(beta_2), where the sum over skipped steps does
            not converge.
    """

    def __init__(self, *args: Any, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("SparseAdam has no amsgrad: a row's maximum needs its skipped steps")
        if exact and self.use_ema:
            raise ValueError("SparseAdam(exact=True) has no use_ema: rows wait for their updates")
        if exact and self._distribution_strategy.num_replicas_in_sync > 1:
            raise ValueError("SparseAdam(exact=True) is not supported under tf.distribute")
        self.exact = exact
        self._skipped = SkippedSteps(self.beta_1, self.beta_2, self.epsilon) if exact else None

    def create_slots(self, variables: list[Any]) -> None:
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        if self.exact:
            self._last_steps = [self.add_row_variable(v, "last_step", "int32") for v in variables]
            self._skipped.build(self.add_variable)

    def row_slots(self, index: int) -> list[Any]:
        moments = [self._momentums[index], self._velocities[index]]
        return [*moments, self._last_steps[index]] if self.exact else moments

    def update_rows(
        self, weights: tf.Tensor, slots: list[tf.Tensor], gradient: tf.Tensor, lr: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        now = tf.cast(self.iterations, tf.int32)
        weights, (m, v, *last) = self._caught_up(weights, slots, now)
        m += (1.0 - self.beta_1) * (gradient - m)
        v += (1.0 - self.beta_2) * (tf.square(gradient) - v)
        weights -= self._step_size(lr) * m / (tf.sqrt(v) + self.epsilon)
        return weights, [m, v, *(step + 1 for step in last)]

    def _caught_up(
        self, weights: tf.Tensor, slots: list[tf.Tensor], now: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Rows and slots as of step `now`: the steps they skipped are applied (exact variant)."""
        if not self.exact:
            return weights, slots
        m, v, last = slots
        weights, m, v = self._skipped.apply(weights, m, v, last, now)
        return weights, [m, v, tf.fill(tf.shape(last), now)]

    def update_dense(self, gradient: tf.Tensor, variable: Any, index: int, lr: tf.Tensor) -> None:
        beta_1, beta_2 = (tf.cast(beta, lr.dtype) for beta in (self.beta_1, self.beta_2))
        step = tf.cast(self.iterations + 1, lr.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=lr,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, lr.dtype),
            grad=gradient,
        )

    def catch_up(self, table: Any, ids: Any = None) -> None:
        """Applies the steps that rows of a weight have skipped so far (exact variant).

        Args:
            table: a table the optimizer was built with.
            ids: int tensor of any shape, rows to bring up to date; None for all.
        """
        if not self.exact or not self.built:
            return
        if ids is None:
            rows = tf.range(table.shape[0])
        else:
            rows, _ = tf.unique(tf.cast(tf.reshape(ids, [-1]), tf.int32))
        slots = [
            gather_rows(slot, rows) for slot in self.row_slots(self._get_variable_index(table))
        ]
        now = tf.cast(self.iterations, tf.int32)
        weights, slots = self._caught_up(gather_rows(table, rows), slots, now)
        self.write_new_rows(rows, [weights, *slots], table)

    def catch_up_tables(self, variables: list[Any]) -> None:
        """`catch_up` of all rows of those variables that are tables, and of no other weight: one
        without rows skips no step."""
        for variable in variables:
            if self._var_key(variable) in self._table_keys:
                self.catch_up(variable)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Keras's hook at the end of `fit`: brings every row up to date."""
        self.catch_up_tables(var_list)
        super().finalize_variable_values(var_list)

    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        super()._backend_update_step(grads, trainable_variables, learning_rate)
        if self.exact:
            lr = tf.cast(self.table_rate(learning_rate), tf.float32)
            self._skipped.record(self._step_size(lr), tf.cast(self.iterations, tf.int32) + 1)

    def _step_size(self, lr: tf.Tensor) -> tf.Tensor:
        step = tf.cast(self.iterations + 1, lr.dtype)
        root = tf.sqrt(1.0 - tf.pow(tf.cast(self.beta_2, lr.dtype), step))
        return lr * root / (1.0 - tf.pow(tf.cast(self.beta_1, lr.dtype), step))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "exact": self.exact}
