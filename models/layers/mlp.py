"""The multi-layer perceptron every deep model shares."""

from collections.abc import Sequence
from typing import Any

import keras

from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class MLP(keras.layers.Layer):
    """Hidden layers x <- Dropout(activation(BN(W x + b))), then, if asked for, a linear Dense.

    Batch norm (momentum 0.9, epsilon 1e-5) and dropout are in each hidden layer or in none.

    Args:
        units: size of each hidden layer; empty for none.
        activation: of the hidden layers.
        batch_norm: whether each hidden layer normalizes before its activation.
        dropout: rate after each activation, in training.
        l2: coefficient of ||W||^2 of every kernel, added to the loss as it is (reading 4).
        output_dim: size of a final Dense without activation; None for no such layer.
        output_bias: whether that Dense has a bias; a model with a first-order part has w0 instead.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: Any = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        output_dim: int | None = None,
        output_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = list(units)
        sizes = self.units if output_dim is None else [*self.units, output_dim]
        if any(size < 1 for size in sizes):
            raise ValueError(f"every layer of an MLP needs at least 1 unit, got {sizes}")
        self.activation = keras.activations.get(activation)
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.l2 = l2
        self.output_dim = output_dim
        self.output_bias = output_bias
        regularizer = keras.regularizers.L2(l2) if l2 else None
        self.steps = []
        for index, size in enumerate(self.units):
            self.steps += self._hidden_layer(size, index, regularizer)
        if output_dim is not None:
            self.steps.append(
                keras.layers.Dense(
                    output_dim,
                    use_bias=output_bias,
                    kernel_regularizer=regularizer,
                    dtype=self.dtype_policy,
                    name="output",
                )
            )

    def _hidden_layer(self, size: int, index: int, regularizer: Any) -> list[keras.layers.Layer]:
        policy = self.dtype_policy
        dense = keras.layers.Dense(
            size, kernel_regularizer=regularizer, dtype=policy, name=f"hidden_{index}"
        )
        steps = [dense]
        if self.batch_norm:
            norm = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, dtype=policy, name=f"norm_{index}"
            )
            steps.append(norm)
        steps.append(keras.layers.Activation(self.activation, dtype=policy))
        if self.dropout:
            steps.append(Dropout(self.dropout, dtype=policy))
        return steps

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for step in self.steps:
            step.build(input_shape)
            input_shape = step.compute_output_shape(input_shape)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Maps (B, ..., N) to (B, ..., size of the last layer)."""
        for step in self.steps:
            takes_training = isinstance(step, (Dropout, keras.layers.BatchNormalization))
            x = step(x, training=training) if takes_training else step(x)
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        sizes = [*self.units, *([] if self.output_dim is None else [self.output_dim])]
        return (*input_shape[:-1], *sizes[-1:]) if sizes else input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
            "l2": self.l2,
            "output_dim": self.output_dim,
            "output_bias": self.output_bias,
        }
