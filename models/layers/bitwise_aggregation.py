"""HoAFM's aggregation of the other fields, weighted entry by entry."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class BitwiseAggregation(keras.layers.Layer):
    """out_i = sum_{j != i} w_ij * y_j, with a learnt vector w_ij of each ordered pair.

    For each field i and entry d the weights have unit length over j: sum_j w_ijd^2 = 1. Computed
    as D products of (F, F) and (F, B) matrices, so nothing of shape (B, F, F, D) is built.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, self.num_fields, self.dim = input_shape
        if self.num_fields < 2:
            raise ValueError("an interaction of fields needs at least 2 fields, got 1")
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.num_fields, self.num_fields - 1, self.dim),
            initializer="glorot_uniform",
        )
        self.built = True

    def pair_weights(self) -> Any:
        """w, (F, F, D), zero on the diagonal."""
        fields, dim = self.num_fields, self.dim
        square = ops.sum(ops.square(self.kernel), axis=1, keepdims=True)
        unit = self.kernel * ops.rsqrt(ops.maximum(square, 1e-12))
        # Read row by row, F entries lie between one diagonal place and the next.
        between = ops.reshape(unit, (fields - 1, fields, dim))
        between = ops.reshape(ops.pad(between, [[0, 0], [1, 0], [0, 0]]), (-1, dim))
        return ops.reshape(ops.pad(between, [[0, 1], [0, 0]]), (fields, fields, dim))

    def call(self, vectors: Any) -> Any:
        """Maps y (B, F, D) to (B, F, D)."""
        return ops.einsum("ijd,bjd->bid", ops.cast(self.pair_weights(), vectors.dtype), vectors)

    def contributions(self, base: Any, vectors: Any, output: Any) -> Any:
        """(e_i * w_ij * y_j) . output of every pair: e, y (B, F, D), output (D,) to (B, F, F)."""
        weights = ops.cast(self.pair_weights() * output, vectors.dtype)
        scaled = ops.cast(0.0, vectors.dtype)
        for entry in range(self.dim):
            pairs = ops.expand_dims(base[:, :, entry], 2) * ops.expand_dims(vectors[:, :, entry], 1)
            scaled = scaled + pairs * weights[:, :, entry]
        return scaled
