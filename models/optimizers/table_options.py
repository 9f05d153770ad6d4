"""What all optimizers that know tables take, and how it is saved."""

from typing import Any

import keras

_SCOPES = ("rows", "table")


class TableOptions:
    """Mixin before a Keras optimizer: options for its tables.

    Args:
        table_learning_rate: float or schedule for the tables; None takes `learning_rate`.
        table_l2: coefficient of the squared norm of rows.
        table_l2_on: "rows" of the batch, or "table".

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
        if table_l2_on not in _SCOPES:
            raise ValueError(f"table_l2_on must be one of {_SCOPES}, got {table_l2_on!r}")
        super().__init__(*args, **kwargs)
        if isinstance(table_learning_rate, dict):
            table_learning_rate = keras.saving.deserialize_keras_object(table_learning_rate)
        self.table_learning_rate = table_learning_rate
        self.table_l2 = table_l2
        self.table_l2_on = table_l2_on

    def table_rate(self, learning_rate: Any) -> Any:
        """The tables' learning rate at this step, given the others'."""
        if self.table_learning_rate is None:
            return learning_rate
        if callable(self.table_learning_rate):
            return self.table_learning_rate(self._iterations)
        return self.table_learning_rate

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
