"""Deep Crossing's residual unit."""

from typing import Any

import keras

from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class ResidualUnit(keras.layers.Layer):
    """x -> ReLU(W1 ReLU(W0 x + b0) + b1 + x)   (Shan et al. 2016, eq. 3 and figure 2).

    The last ReLU, after the sum, is the figure's; the equation does not show it (reading 37).

    Args:
        units: size of the hidden layer; the output has the input's size.
        dropout: rate after the hidden layer, in training.
        final_relu: whether the sum passes a ReLU.

    Raises:
        ValueError: `units` below 1.
    """

    def __init__(
        self, units: int, dropout: float = 0.0, final_relu: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self.units = units
        self.dropout = dropout
        self.final_relu = final_relu
        self.hidden = keras.layers.Dense(
            units, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        # The output layer takes the input's size, known only here.
        self.output_layer = keras.layers.Dense(
            input_shape[-1], dtype=self.dtype_policy, name="output"
        )
        self.hidden.build(input_shape)
        self.output_layer.build((*input_shape[:-1], self.units))
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Maps (B, N) to (B, N)."""
        hidden = self.drop(self.hidden(x), training=training)
        total = self.output_layer(hidden) + x
        return keras.ops.relu(total) if self.final_relu else total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "final_relu": self.final_relu,
        }
