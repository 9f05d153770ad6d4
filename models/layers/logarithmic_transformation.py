"""AFN's logarithmic transformation layer."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class LogarithmicTransformation(keras.layers.Layer):
    """y_n = exp(sum_i w_in ln |e_i|) = prod_i |e_i|^{w_in}, element by element.

    Cheng et al. 2020, section 3. A neuron is a product of field vectors raised to learned powers:
    the order of an interaction, and who takes part, are weights. Vectors pass abs and are clipped
    from below; ln is normalized per field and the result per neuron; no bias (reading 42).

    Args:
        neurons: number N of neurons.
        epsilon: least magnitude a vector's entry counts with.

    Raises:
        ValueError: `neurons` below 1 or an `epsilon` that is not positive.
    """

    def __init__(self, neurons: int, epsilon: float = 1e-7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if neurons < 1:
            raise ValueError(f"neurons must be at least 1, got {neurons}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {epsilon}")
        self.neurons = neurons
        self.epsilon = epsilon
        norm = {"momentum": 0.9, "epsilon": 1e-5, "dtype": self.dtype_policy}
        self.log_norm = keras.layers.BatchNormalization(**norm, name="log_norm")
        self.exp_norm = keras.layers.BatchNormalization(**norm, name="exp_norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        batch, num_fields, dim = input_shape
        self.kernel = self.add_weight(
            name="kernel",
            shape=(num_fields, self.neurons),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )
        self.log_norm.build((batch, dim, num_fields))
        self.exp_norm.build((batch, dim, self.neurons))
        self.built = True

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps field vectors (B, F, D) to (B, D, N): neurons last, where they are computed."""
        magnitudes = ops.maximum(ops.abs(ops.swapaxes(vectors, 1, 2)), self.epsilon)
        logarithms = self.log_norm(ops.log(magnitudes), training=training)
        products = ops.exp(ops.matmul(logarithms, self.kernel))
        return self.exp_norm(products, training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "neurons": self.neurons, "epsilon": self.epsilon}
