"""DCN's cross network: the vector form."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class CrossNetwork(keras.layers.Layer):
    """x_{l+1} = x_0 (x_l . w_l) + b_l + x_l   (Wang et al. 2017, eq. 3).

    The bias stands outside the product, as in DCN's own paper (reading 36). The product raises
    the order by one per layer; all of them are rank-one forms.

    Args:
        num_layers: number of cross layers L.

    Raises:
        ValueError: `num_layers` below 1.
    """

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.num_layers = num_layers

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        self.kernels = [
            self.add_weight(name=f"kernel_{layer}", shape=(size, 1), initializer="glorot_uniform")
            for layer in range(self.num_layers)
        ]
        self.biases = [
            self.add_weight(name=f"bias_{layer}", shape=(size,), initializer="zeros")
            for layer in range(self.num_layers)
        ]
        self.built = True

    def call(self, x: Any) -> Any:
        """Maps (B, N) to (B, N)."""
        return self._states(x)[-1]

    def _states(self, x: Any) -> list[Any]:
        """x_0 ... x_L, each (B, N)."""
        states = [x]
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            states.append(x * ops.matmul(states[-1], kernel) + bias + states[-1])
        return states

    def explain(self, x: Any, readout: Any, num_fields: int) -> dict[str, Any]:
        """Splits readout . x_L, exactly, over the fields.

        Layer l adds readout . x_0 (x_l . w_l): field i of x_0 with field j of x_l is an entry of
        `order_{l+2}_contributions` (B, F, F), the diagonal included. Its weight is the norm of
        block (i, j) of the matrix 1 w_l^T the layer amounts to.

        Args:
            x: the field vectors side by side, float32 (B, F D).
            readout: weights of the linear output over x_L, (F D,).
            num_fields: F.

        Returns:
            `bias` (B, 1), `first_order` (B, F), and weights and contributions by order.
        """
        states = self._states(x)

        def by_field(products: Any) -> Any:
            size = products.shape[-1] // num_fields
            return ops.sum(ops.reshape(products, (-1, num_fields, size)), axis=-1)

        left = by_field(x * readout)
        constant = sum(ops.sum(readout * bias) for bias in self.biases)
        parts = {"bias": ops.zeros_like(left[:, :1]) + constant, "first_order": left}
        for layer, kernel in enumerate(self.kernels):
            weight = ops.squeeze(kernel, axis=-1)
            right = by_field(states[layer] * weight)
            size = weight.shape[0] // num_fields
            norms = ops.sqrt(size * by_field(ops.expand_dims(ops.square(weight), 0)))
            contributions = ops.expand_dims(left, -1) * ops.expand_dims(right, 1)
            parts[f"order_{layer + 2}_weights"] = ops.zeros_like(contributions) + norms
            parts[f"order_{layer + 2}_contributions"] = contributions
        return parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers}
