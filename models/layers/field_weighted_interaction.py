"""FwFM's sum over pairs, each pair of fields with a weight of its own."""

from typing import Any

import keras
from keras import ops

from models.layers.pairs import pairs_to_matrix


@keras.saving.register_keras_serializable(package="ctr")
class FieldWeightedInteraction(keras.layers.Layer):
    """sum_{i<j} r_ij <v_i, v_j> = sum_i <v_i, (R v)_i> / 2   (Pan et al. 2018).

    R is symmetric with a zero diagonal; only its upper triangle is a weight. It starts near 1, the
    FM's.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.num_fields = input_shape[1]
        self.weight = self.add_weight(
            name="weight",
            shape=(self.num_fields * (self.num_fields - 1) // 2,),
            initializer=keras.initializers.RandomNormal(mean=1.0, stddev=0.01),
        )
        self.built = True

    def matrix(self) -> Any:
        """R, (1, F, F)."""
        return pairs_to_matrix(self.weight[None], self.num_fields)

    def call(self, vectors: Any) -> Any:
        """Maps field vectors (B, F, D) to the sum (B, 1)."""
        mixed = ops.matmul(ops.cast(self.matrix(), vectors.dtype), vectors)
        return 0.5 * ops.expand_dims(ops.sum(vectors * mixed, axis=(1, 2)), -1)
