"""GraphFM's interaction aggregation: multi-head attention over the interactions kept."""

from typing import Any

import keras
from keras import ops

from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class InteractionAggregation(keras.layers.Layer):
    """Updates each field by its interactions with the fields it keeps (GraphFM, eq. 10-13).

        c_ij = LeakyReLU(a . (e_i * e_j)),    alpha_i = softmax of c_ij over the fields kept,
        e'_i = ReLU(sum_j alpha_ij p_ij W_a (e_i * e_j)),    the H heads concatenated

    The nonlinearity of eq. 12 is ReLU (reading 28), the slope of LeakyReLU 0.2 (reading 29); the
    softmax runs over the kept fields only (reading 31) and p multiplies the message (reading 32).
    In products of matrices the sum is W_a (e_i * ((alpha p) E)_i), so that nothing of shape
    (B, F, F, D) is built. The heads are computed one by one: on a CPU that is faster than any form
    with an axis of heads, whose tensors have to be transposed or broadcast.

    Args:
        units: width of the output, all heads together.
        num_heads: H; divides `units`.
        interact: False aggregates the neighbours' own vectors, W_a e_j, with the same alpha and
            p: GraphFM(-I) (reading 34).
        dropout: rate on the weights alpha p, in training.

    Raises:
        ValueError: `units` is not a positive multiple of `num_heads`.
    """

    def __init__(
        self,
        units: int,
        num_heads: int = 1,
        interact: bool = True,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads < 1 or units < 1 or units % num_heads:
            raise ValueError(f"units must be a multiple of num_heads, got {units} and {num_heads}")
        self.units = units
        self.num_heads = num_heads
        self.interact = interact
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, vectors_shape: tuple[int | None, ...], **_: Any) -> None:
        dim = vectors_shape[-1]
        self.query = self.add_weight(
            name="query", shape=(dim, self.num_heads), initializer="glorot_uniform"
        )
        self.kernel = self.add_weight(
            name="kernel", shape=(dim, self.units), initializer="glorot_uniform"
        )
        self.built = True

    def weights_by_head(self, vectors: Any, edges: Any = None, kept: Any = None) -> Any:
        """alpha_ij p_ij of each head, (B, H, F, F); arguments as of `call`."""
        heads = range(self.num_heads)
        return ops.stack([self._weights(head, vectors, edges, kept) for head in heads], axis=1)

    def _weights(self, head: int, vectors: Any, edges: Any, kept: Any) -> Any:
        """alpha_ij p_ij of one head, (B, F, F)."""
        # Cast here, not by Keras: explanations call this outside of the layer's `__call__`.
        query = ops.cast(self.query[:, head], self.compute_dtype)
        scores = ops.matmul(vectors * query, ops.swapaxes(vectors, 1, 2))
        scores = ops.leaky_relu(scores, negative_slope=0.2)
        if kept is not None:
            # Every field keeps at least one, so no row is -inf throughout.
            scores = ops.where(kept, scores, float("-inf"))
        weights = ops.softmax(scores, axis=-1)
        return weights if edges is None else weights * edges

    def call(
        self, vectors: Any, edges: Any = None, kept: Any = None, training: bool | None = None
    ) -> Any:
        """Maps the fields' vectors (B, F, D) to their updates (B, F, units).

        Args:
            vectors: e, (B, F, D).
            edges: p, (B, F, F); None for 1 everywhere.
            kept: which fields j each field i keeps, bool (B, F, F); None for all.
            training: whether dropout acts.
        """
        weights = [
            self.drop(self._weights(head, vectors, edges, kept), training=training)
            for head in range(self.num_heads)
        ]
        return ops.relu(self._messages(vectors, weights))

    def contributions(self, vectors: Any, output: Any, edges: Any = None, kept: Any = None) -> Any:
        """What each interaction adds to sum_i e'_i . output, (B, F, F), exactly.

        ReLU passes a sum of messages or stops it; where it passes, each message keeps its share.

        Args:
            vectors: e, (B, F, D).
            output: the vector (units,) the updates are projected on.
            edges: as of `call`.
            kept: as of `call`.
        """
        heads = [self._weights(head, vectors, edges, kept) for head in range(self.num_heads)]
        messages = self._messages(vectors, heads)
        passed = ops.cast(ops.greater(messages, 0), messages.dtype)
        passed = passed * ops.cast(output, messages.dtype)
        total = 0.0
        for head, weights in enumerate(heads):
            kernel = self._head_kernel(head)
            units = passed[..., head * kernel.shape[1] : (head + 1) * kernel.shape[1]]
            towards = ops.matmul(units, ops.transpose(kernel))
            if self.interact:
                towards = towards * vectors
            total = total + weights * ops.matmul(towards, ops.swapaxes(vectors, 1, 2))
        return total

    def _head_kernel(self, head: int) -> Any:
        """W_a of one head, (D, units / H)."""
        size = self.units // self.num_heads
        return ops.cast(self.kernel[:, head * size : (head + 1) * size], self.compute_dtype)

    def _messages(self, vectors: Any, weights: list[Any]) -> Any:
        """The sum inside ReLU, (B, F, units), of each head's weights (B, F, F)."""
        fields, dim = vectors.shape[1:]
        messages = []
        for head, shares in enumerate(weights):
            gathered = ops.matmul(shares, vectors)
            if self.interact:
                gathered = gathered * vectors
            rows = ops.reshape(gathered, (-1, dim))
            messages.append(ops.matmul(rows, self._head_kernel(head)))
        return ops.reshape(ops.concatenate(messages, axis=-1), (-1, fields, self.units))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "num_heads": self.num_heads,
            "interact": self.interact,
            "dropout": self.dropout,
        }
