"""A Transformer encoder block over the fields."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ctr")
class TransformerEncoder(keras.layers.Layer):
    """One post-norm encoder block (Vaswani et al. 2017), of Keras's own layers.

        x <- LayerNorm(x + MultiHeadAttention(x)),    x <- LayerNorm(x + W_2 ReLU(W_1 x))

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
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy)
        self.built = True

    def weights_by_head(self, vectors: Any) -> Any:
        """The attention of each head: (B, F, D) to (B, H, F, F)."""
        _, weights = self.attention(vectors, vectors, return_attention_scores=True, training=False)
        return weights

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps (B, F, D) to (B, F, D)."""
        attended = self.attention(vectors, vectors, training=training)
        vectors = self.norms[0](vectors + self.drop(attended, training=training))
        fed = self.output_step(self.hidden(vectors))
        return self.norms[1](vectors + self.drop(fed, training=training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "feedforward_dim": self.feedforward_dim,
            "dropout": self.dropout,
        }
