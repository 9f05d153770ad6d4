"""Optimizers of the backends whose gradients of lookups are dense: tables are updated whole."""

from typing import Any

import keras
from keras import ops

from models.optimizers.table_options import TableOptions


class WholeTables(TableOptions):
    """Mixin before a Keras optimizer: `RowSparse`'s options where no gradient is row-sparse.

    The rules are those of `RowSparse` with `table_update="whole"`, which is Keras's own update; so
    a configuration whose tables are dense trains by the same rule on TensorFlow and on JAX. A
    table is a weight of that name, which is what `FeatureEmbedding` calls it.
    `table_l2` is added before clipping; a row of the batch is one whose gradient is not zero.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's hook: one weight, its gradient as clipped."""
        if _is_table(variable):
            learning_rate = self.table_rate(learning_rate)
        super().update_step(gradient, variable, learning_rate)

    def _backend_apply_gradients(self, grads: list[Any], trainable_variables: list[Any]) -> None:
        pairs = zip(grads, trainable_variables, strict=True)
        grads = [self._penalized(g, v) if _is_table(v) else g for g, v in pairs]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _penalized(self, gradient: Any, table: Any) -> Any:
        """The gradient (N, ...) with the L2 term."""
        if not self.table_l2:
            return gradient
        penalty = (2.0 * self.table_l2) * ops.convert_to_tensor(table)
        if self.table_l2_on == "rows":
            others = tuple(range(1, len(table.shape)))
            seen = ops.any(ops.not_equal(gradient, 0), axis=others, keepdims=True)
            penalty = ops.where(seen, penalty, 0.0)
        return gradient + penalty


def _is_table(variable: Any) -> bool:
    return variable.name == "table"


@keras.saving.register_keras_serializable(package="ctr")
class WholeAdam(WholeTables, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with `WholeTables`'s options."""


@keras.saving.register_keras_serializable(package="ctr")
class WholeAdagrad(WholeTables, keras.optimizers.Adagrad):
    """`keras.optimizers.Adagrad` with `WholeTables`'s options."""


@keras.saving.register_keras_serializable(package="ctr")
class WholeSGD(WholeTables, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with `WholeTables`'s options."""


@keras.saving.register_keras_serializable(package="ctr")
class WholeFTRL(WholeTables, keras.optimizers.Ftrl):
    """`keras.optimizers.Ftrl` with `WholeTables`'s options."""
