"""A Transformer encoder block over the fields."""

from typing import Any

import keras
from keras import ops

from models.layers.dot_product_attention import attention_with_dropout
from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class TransformerEncoder(keras.layers.Layer):
    """One post-norm encoder block (Vaswani et al. 2017).

        x <- LayerNorm(x + MultiHeadAttention(x)),    x <- LayerNorm(x + W_2 ReLU(W_1 x))

    The weights are those of Keras's own layers. The attention is computed with the two projections
    of a score, and those of a message, multiplied together first (D is small here):

        a_i = softmax_j(x_i A x_j + c x_j),  A = W_Q W_K^T,  c = b_Q W_K^T    for each head,
        MultiHeadAttention(x)_i = sum_heads (sum_j a_ij x_j) (W_V W_O) + b_V W_O + b_O

    since what does not depend on j cancels in the softmax. All heads are rows of one product of
    matrices, with no transposition: half the time of the projected form.

    Args:
        num_heads: H; divides the width D of x.
        feedforward_dim: hidden size of the second step; None for 4 D.
        dropout: rate on the attention weights and on both steps' outputs, in training.

    Raises:
        ValueError: `num_heads` that does not divide D (when built) or below 1.
    """

    def __init__(
        self,
        num_heads: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}")
        self.num_heads = num_heads
        self.feedforward_dim = feedforward_dim
        self.dropout = dropout

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        dim, policy = input_shape[-1], self.dtype_policy
        if dim % self.num_heads:
            raise ValueError(f"num_heads must divide the width {dim}, got {self.num_heads}")
        hidden = self.feedforward_dim or 4 * dim
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, dim // self.num_heads, dropout=self.dropout, dtype=policy
        )
        self.attention.build(input_shape, input_shape)
        self.hidden = keras.layers.Dense(hidden, activation="relu", dtype=policy, name="hidden")
        self.hidden.build(input_shape)
        self.output_step = keras.layers.Dense(dim, dtype=policy, name="output")
        self.output_step.build((*input_shape[:-1], hidden))
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-5, dtype=policy) for _ in range(2)]
        for norm in self.norms:
            norm.build(input_shape)
        self.drop = Dropout(self.dropout, dtype=policy)
        self.built = True

    def weights_by_head(self, vectors: Any) -> Any:
        """The attention of each head: (B, F, D) to (B, H, F, F)."""
        num_fields = vectors.shape[1]
        scores = ops.matmul(self._queries(vectors), ops.swapaxes(vectors, 1, 2))
        weights = ops.softmax(scores, axis=-1)
        weights = ops.reshape(weights, (-1, num_fields, self.num_heads, num_fields))
        return ops.transpose(weights, (0, 2, 1, 3))

    def _queries(self, vectors: Any) -> Any:
        """x_i A + c of each field and head, (B, F H, D), the heads of a field side by side."""
        _, num_fields, dim = vectors.shape
        query, key = self.attention.query_dense, self.attention.key_dense
        scale = (dim // self.num_heads) ** -0.5
        kernel = scale * ops.einsum("dhk,ehk->dhe", query.kernel, key.kernel)
        offset = scale * ops.einsum("hk,ehk->he", query.bias, key.kernel)
        # b_K cancels too, but an optimizer wants its gradient, which is 0.
        offset = offset + 0.0 * ops.sum(key.bias)
        rows = _affine(ops.reshape(vectors, (-1, dim)), kernel, offset)
        return ops.reshape(rows, (-1, num_fields * self.num_heads, dim))

    def _attended(self, vectors: Any, training: bool | None) -> Any:
        """MultiHeadAttention(x), (B F, D)."""
        queries = self._queries(vectors)
        gathered = attention_with_dropout(self.drop, queries, vectors, training)
        gathered = ops.reshape(gathered, (-1, self.num_heads * vectors.shape[2]))
        value, output = self.attention.value_dense, self.attention.output_dense
        kernel = ops.einsum("dhk,hko->hdo", value.kernel, output.kernel)
        offset = ops.einsum("hk,hko->o", value.bias, output.kernel) + output.bias
        return _affine(gathered, kernel, offset)

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps (B, F, D) to (B, F, D)."""
        _, num_fields, dim = vectors.shape
        rows = ops.reshape(vectors, (-1, dim))
        attended = self.drop(self._attended(vectors, training), training=training)
        rows = self.norms[0](rows + attended)
        fed = self.drop(self.output_step(self.hidden(rows)), training=training)
        return ops.reshape(self.norms[1](rows + fed), (-1, num_fields, dim))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "feedforward_dim": self.feedforward_dim,
            "dropout": self.dropout,
        }


def _affine(rows: Any, kernel: Any, offset: Any) -> Any:
    """x W + b of rows (N, D), the axes of W beyond the rows' own and those of b flattened."""
    kernel = ops.reshape(kernel, (rows.shape[-1], -1))
    return ops.matmul(rows, kernel) + ops.reshape(offset, (-1,))
