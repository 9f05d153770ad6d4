"""GraphFM's interaction selection: a metric function and the best neighbours of each field."""

from typing import Any

import keras
from keras import ops

# Rows of the matrix product that takes several hidden units at once: enough to be fast on few
# fields, one unit at a time on many.
_ROWS = 256


@keras.saving.register_keras_serializable(package="ctr")
class InteractionSelection(keras.layers.Layer):
    """How beneficial each interaction is, and which ones each field keeps (GraphFM, eq. 7-9).

        p_ij = sigmoid(W_2 ReLU(W_1 (e_i * e_j) + b_1) + b_2)

    Field i keeps exactly `neighbours` fields j, those of largest p_ij, itself among the
    candidates; of equal ones the lower index first (reading 30). Each hidden unit is a product of
    matrices, (E diag(w)) E^T, so nothing of size F^2 D is built; with many fields the units are
    taken a few at a time, so that the forward pass holds a few (B, F, F) tensors, not T.

    Args:
        neighbours: m, how many fields each field keeps.
        units: hidden size T of the metric function; 16 in the authors' program.
        keep_ties: keep every field that reaches the m-th largest p, as the authors' program does.

    Raises:
        ValueError: fewer than 1 neighbour or unit, or more neighbours than fields (when built).
    """

    def __init__(
        self, neighbours: int, units: int = 16, keep_ties: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours}")
        if units < 1:
            raise ValueError(f"the metric function needs at least 1 unit, got {units}")
        self.neighbours = neighbours
        self.units = units
        self.keep_ties = keep_ties

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, fields, dim = input_shape
        if self.neighbours > fields:
            raise ValueError(
                f"neighbours must be at most the number of fields, {fields}, got {self.neighbours}"
            )
        self.hidden_kernel = self.add_weight(
            name="hidden_kernel", shape=(dim, self.units), initializer="glorot_uniform"
        )
        self.hidden_bias = self.add_weight(
            name="hidden_bias", shape=(self.units,), initializer="zeros"
        )
        self.score_kernel = self.add_weight(
            name="score_kernel", shape=(self.units, 1), initializer="glorot_uniform"
        )
        self.score_bias = self.add_weight(name="score_bias", shape=(1,), initializer="zeros")
        self.built = True

    def edges(self, vectors: Any) -> Any:
        """The weights p_ij of all interactions: (B, F, D) to (B, F, F)."""
        fields, dim = vectors.shape[1:]
        transposed = ops.swapaxes(vectors, 1, 2)
        together = max(1, _ROWS // fields)
        score = self.score_bias[0]
        for start in range(0, self.units, together):
            stop = min(start + together, self.units)
            kernel = ops.expand_dims(ops.transpose(self.hidden_kernel[:, start:stop]), 1)
            rows = ops.reshape(
                ops.expand_dims(vectors, 1) * kernel, (-1, (stop - start) * fields, dim)
            )
            products = ops.reshape(ops.matmul(rows, transposed), (-1, stop - start, fields, fields))
            hidden = ops.relu(products + ops.reshape(self.hidden_bias[start:stop], (-1, 1, 1)))
            score = score + ops.einsum("btij,t->bij", hidden, self.score_kernel[start:stop, 0])
        return ops.sigmoid(score)

    def call(self, vectors: Any) -> tuple[Any, Any]:
        """Maps (B, F, D) to p (B, F, F), 0 where not kept, and which are kept, bool (B, F, F)."""
        edges = self.edges(vectors)
        kept = largest(edges, self.neighbours, self.keep_ties)
        return edges * ops.cast(kept, edges.dtype), kept

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "neighbours": self.neighbours,
            "units": self.units,
            "keep_ties": self.keep_ties,
        }


def largest(scores: Any, count: int, keep_ties: bool = False) -> Any:
    """Marks the `count` largest entries of the last axis, lower index first on ties.

    Args:
        scores: (..., N).
        count: how many, 1 to N.
        keep_ties: mark all entries equal to the last one marked, so possibly more than `count`.

    Returns:
        bool (..., N).
    """
    if count == scores.shape[-1]:
        return ops.ones_like(scores, dtype="bool")
    threshold = ops.top_k(scores, count)[0][..., -1:]
    if keep_ties:
        return ops.greater_equal(scores, threshold)
    above = ops.greater(scores, threshold)
    ties = ops.equal(scores, threshold)
    places = count - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
    turn = ops.cumsum(ops.cast(ties, "int32"), axis=-1)
    return ops.logical_or(above, ops.logical_and(ties, ops.less_equal(turn, places)))
