"""Fi-GNN's attentional edge weights."""

from typing import Any

import keras
import numpy as np
from keras import ops

from models.layers.masked_softmax import masked_softmax


@keras.saving.register_keras_serializable(package="ctr")
class EdgeAttention(keras.layers.Layer):
    """How strongly each field reads each other field (Fi-GNN, edge weights; reading 38).

        w_ij = softmax_j(LeakyReLU(W_w [e_i || e_j])),  j != i;    A_ij = w_ij, A_ii = 0

    Field i reads A_ji from field j, whose softmax runs over all targets of j (the paper's
    letter), or A_ij with `read_edges="target"`, so that what each target reads sums to 1. W_w of
    a concatenation is a sum of two products, so nothing of shape (B, F, F, D) is built. The slope
    of LeakyReLU is 0.2.

    Args:
        read_edges: "source" or "target": whose softmax normalizes an edge.

    Raises:
        ValueError: another `read_edges`.
    """

    def __init__(self, read_edges: str = "source", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if read_edges not in ("source", "target"):
            raise ValueError(f"read_edges must be 'source' or 'target', got {read_edges!r}")
        self.read_edges = read_edges

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], 2), initializer="glorot_uniform"
        )
        self.built = True

    def call(self, vectors: Any) -> Any:
        """Maps (B, F, D) to what field i reads from field j, (B, F, F), zero diagonal."""
        halves = ops.matmul(vectors, self.kernel)
        scores = halves[:, :, :1] + ops.swapaxes(halves[:, :, 1:], 1, 2)
        others = ~np.eye(vectors.shape[1], dtype=bool)
        weights = masked_softmax(ops.leaky_relu(scores, negative_slope=0.2), others)
        return weights if self.read_edges == "target" else ops.swapaxes(weights, 1, 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "read_edges": self.read_edges}
