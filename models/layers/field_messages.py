"""Fi-GNN's interaction step: what every field hears of the others."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class FieldMessages(keras.layers.Layer):
    """a_i = sum_j A_ij W_in^i W_out^j h_j + b   (Fi-GNN, state aggregation).

    Each field has its own matrices, one for what it says and one for what it hears; A_ij is what
    field i reads from field j.
    """

    def build(
        self, graph_shape: tuple[int | None, ...], states_shape: tuple[int | None, ...]
    ) -> None:
        _, fields, dim = states_shape
        # Glorot's bound for one field's matrix; the initializer itself would count the fields in.
        limit = (3 / dim) ** 0.5
        for name in ("says", "hears"):
            kernel = self.add_weight(
                name=name,
                shape=(fields, dim, dim),
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )
            setattr(self, name, kernel)
        self.bias = self.add_weight(name="bias", shape=(dim,), initializer="zeros")
        self.built = True

    def call(self, graph: Any, states: Any) -> Any:
        """Maps A (B, F, F) and h (B, F, D) to a (B, F, D)."""
        said = ops.einsum("bfd,fde->bfe", states, self.says)
        heard = ops.matmul(graph, said)
        return ops.einsum("bfd,fde->bfe", heard, self.hears) + self.bias
