"""GraphFM's interaction selection: a metric function and the best neighbours of each field."""

from typing import Any

import keras
import numpy as np
from keras import ops

from models.layers.pair_metric import pair_metric


@keras.saving.register_keras_serializable(package="ctr")
class InteractionSelection(keras.layers.Layer):
    """How beneficial each interaction is, and which ones each field keeps (GraphFM, eq. 7-9).

        p_ij = sigmoid(W_2 ReLU(W_1 (e_i * e_j) + b_1) + b_2)

    Field i keeps exactly `neighbours` fields j, those of largest p_ij, itself among the
    candidates; of equal ones the lower index first (reading 30). p_ij = p_ji is computed once: in
    training as `pair_metric` does it, outside of training one distance between i and j after the
    other, so that what is read again is still in the processor's cache; the gradient of all those
    slices would cost more than that saves.

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

    def edges(self, vectors: Any, training: bool | None = None) -> Any:
        """The weights p_ij of all interactions: (B, F, D) to (B, F, F)."""
        scores = self._scores_by_pair if training else self._scores_by_distance
        return ops.sigmoid(scores(vectors) + self.score_bias[0])

    def _scores_by_pair(self, vectors: Any) -> Any:
        weights = (self.hidden_kernel, self.hidden_bias, self.score_kernel)
        return pair_metric(vectors, *(ops.cast(weight, vectors.dtype) for weight in weights))

    def _scores_by_distance(self, vectors: Any) -> Any:
        fields, dim = vectors.shape[1:]
        # Fields first: a slice of them is then a view. Counted in a circle, two fields are at most
        # half of F apart.
        around = ops.transpose(vectors, (1, 0, 2))
        around = ops.concatenate([around, around], axis=0)
        scores = []
        for distance in range(fields // 2 + 1):
            products = around[:fields] * around[distance : distance + fields]
            hidden = ops.matmul(ops.reshape(products, (-1, dim)), self.hidden_kernel)
            hidden = ops.relu(hidden + self.hidden_bias)
            scores.append(ops.matmul(hidden, self.score_kernel))
        scores = ops.reshape(ops.concatenate(scores, axis=0), (len(scores) * fields, -1))
        pairs = ops.take(scores, _places_by_distance(fields).ravel(), axis=0)
        return ops.transpose(ops.reshape(pairs, (fields, fields, -1)), (2, 0, 1))

    def call(self, vectors: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Maps (B, F, D) to p (B, F, F), 0 where not kept, and which are kept, bool (B, F, F)."""
        edges = self.edges(vectors, training)
        kept = largest(edges, self.neighbours, self.keep_ties)
        return edges * ops.cast(kept, edges.dtype), kept

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "neighbours": self.neighbours,
            "units": self.units,
            "keep_ties": self.keep_ties,
        }


def _places_by_distance(fields: int) -> np.ndarray:
    """Where the pair of two fields lies among distance * F + first field, int (F, F)."""
    first, second = np.indices((fields, fields))
    forth, back = (second - first) % fields, (first - second) % fields
    # Half around the circle there are two ways: the one from the lower field.
    forwards = (forth < back) | ((forth == back) & (first <= second))
    places = np.where(forwards, forth * fields + first, back * fields + second)
    return places.astype("int32")


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
    best = ops.top_k(scores, count, sorted=False)[0]
    threshold = ops.min(best, axis=-1, keepdims=True)
    if keep_ties:
        return ops.greater_equal(scores, threshold)
    above = ops.greater(scores, threshold)
    ties = ops.equal(scores, threshold)
    places = count - ops.sum(ops.cast(above, "float32"), axis=-1, keepdims=True)
    # A product with a triangle of ones counts the ties so far: cumsum is four times slower.
    size = scores.shape[-1]
    flat = ops.reshape(ops.cast(ties, "float32"), (-1, size))
    turn = ops.matmul(flat, np.triu(np.ones((size, size), "float32")))
    turn = ops.reshape(turn, (-1, *scores.shape[1:]))
    return ops.logical_or(above, ops.logical_and(ties, ops.less_equal(turn, places)))
