"""Optimizers of the backends whose gradients of lookups are dense: tables are updated whole."""

from typing import Any

import keras
from keras import ops


class WholeTables:
    """Mixin before a Keras optimizer: `RowSparse`'s options where no gradient is row-sparse.

    The rules are those of `RowSparse` with `table_update="whole"`, which is Keras's own update; so
    a configuration whose tables are dense trains by the same rule on TensorFlow and on JAX. A
    table is a weight of that name, which is what `FeatureEmbedding` calls it.

    Args:
        table_learning_rate: float or schedule for the tables; None takes `learning_rate`.
        table_l2: coefficient of the squared norm of rows, added to the gradient before clipping.
        table_l2_on: "rows" with a gradient in this batch, or the whole "table".

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        *args: Any,
        table_learning_rate: Any = None,
        table_l2: float = 0.0,
        table_l2_on: str = "rows",
        **kwargs: Any,
    ) -> None:
        if not table_l2 >= 0:
            raise ValueError(f"table_l2 must be 0 or more, got {table_l2!r}")
        if table_l2_on not in ("rows", "table"):
            raise ValueError(f"table_l2_on must be one of ('rows', 'table'), got {table_l2_on!r}")
        super().__init__(*args, **kwargs)
        if isinstance(table_learning_rate, dict):
            table_learning_rate = keras.saving.deserialize_keras_object(table_learning_rate)
        self.table_learning_rate = table_learning_rate
        self.table_l2 = table_l2
        self.table_l2_on = table_l2_on

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's hook: one weight, its gradient as clipped."""
        if _is_table(variable) and self.table_learning_rate is not None:
            rate = self.table_learning_rate
            learning_rate = rate(self._iterations) if callable(rate) else rate
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

    def get_config(self) -> dict[str, Any]:
        rate = self.table_learning_rate
        if callable(rate):
            rate = keras.saving.serialize_keras_object(rate)
        return {
            **super().get_config(),
            "table_learning_rate": rate,
            "table_l2": self.table_l2,
            "table_l2_on": self.table_l2_on,
        }


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
