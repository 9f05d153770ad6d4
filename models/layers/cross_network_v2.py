"""DCNv2's cross network: the matrix form, whole or of low rank."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class CrossNetworkV2(keras.layers.Layer):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l   (Wang et al. 2021, eq. 1).

    With a rank, W_l = U_l V_l^T (eq. 2). The bias stands inside the product (reading 36). With
    rank 1, U = 1 and b = 0 it is DCN's vector form.

    Args:
        num_layers: number of cross layers L.
        rank: columns of U_l and V_l; None for a whole matrix W_l.

    Raises:
        ValueError: `num_layers` or `rank` below 1.
    """

    def __init__(self, num_layers: int, rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if rank is not None and rank < 1:
            raise ValueError(f"rank must be at least 1, or None for a whole matrix; got {rank}")
        self.num_layers = num_layers
        self.rank = rank

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        # Each layer's factors in the order x_l meets them: [W^T], or [V, U^T].
        shapes = [(size, size)] if self.rank is None else [(size, self.rank), (self.rank, size)]
        self.kernels = [
            [
                self.add_weight(
                    name=f"kernel_{layer}_{part}", shape=shape, initializer="glorot_uniform"
                )
                for part, shape in enumerate(shapes)
            ]
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
        for factors, bias in zip(self.kernels, self.biases, strict=True):
            product = states[-1]
            for factor in factors:
                product = ops.matmul(product, factor)
            states.append(x * (product + bias) + states[-1])
        return states

    def matrix(self, layer: int) -> Any:
        """W_l^T, (N, N): row of an input, column of an output."""
        factors = self.kernels[layer]
        return ops.convert_to_tensor(factors[0]) if len(factors) == 1 else ops.matmul(*factors)

    def block_norms(self, layer: int, num_fields: int) -> Any:
        """Norms of W_l's blocks (to field i, from field j), (F, F): how strong a pair is."""
        blocks = ops.square(self._blocks(layer, num_fields))
        return ops.transpose(ops.sqrt(ops.sum(blocks, axis=(1, 3))))

    def _blocks(self, layer: int, num_fields: int) -> Any:
        matrix = self.matrix(layer)
        size = matrix.shape[0] // num_fields
        return ops.reshape(matrix, (num_fields, size, num_fields, size))

    def explain(self, x: Any, readout: Any, num_fields: int) -> dict[str, Any]:
        """Splits readout . x_L, exactly, over the fields.

        Layer l adds readout . (x_0 * W_l x_l): field i of x_0 with field j of x_l is an entry of
        `order_{l+2}_contributions` (B, F, F), the diagonal included; its weight is the norm of
        block (i, j) of W_l. The biases, which multiply x_0, count as first order.

        Args:
            x: the field vectors side by side, float32 (B, F D).
            readout: weights of the linear output over x_L, (F D,).
            num_fields: F.

        Returns:
            `first_order` (B, F), and weights and contributions by order.
        """
        left = x * readout
        first_order = left * (1.0 + sum(self.biases[1:], start=self.biases[0]))
        parts = {"first_order": ops.sum(_by_field(first_order, num_fields), axis=-1)}
        for layer, state in enumerate(self._states(x)[:-1]):
            # What every input entry adds to the output, (B, N_in, F_out), then summed by field.
            shares = ops.einsum(
                "bid,jeid->bjei", _by_field(left, num_fields), self._blocks(layer, num_fields)
            )
            inputs = ops.expand_dims(_by_field(state, num_fields), -1)
            contributions = ops.swapaxes(ops.sum(inputs * shares, axis=2), 1, 2)
            norms = self.block_norms(layer, num_fields)
            parts[f"order_{layer + 2}_weights"] = ops.zeros_like(contributions) + norms
            parts[f"order_{layer + 2}_contributions"] = contributions
        return parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers, "rank": self.rank}


def _by_field(x: Any, num_fields: int) -> Any:
    """(B, F D) to (B, F, D)."""
    return ops.reshape(x, (-1, num_fields, x.shape[-1] // num_fields))
