"""AutoInt's interacting layer: multi-head self-attention over the fields."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class InteractingLayer(keras.layers.Layer):
    """Updates each field by the fields it attends to (AutoInt, eq. 5-8).

        alpha_mk = softmax_k((W_Q e_m) . (W_K e_k)),    e~_m = sum_k alpha_mk W_V e_k,
        out_m = ReLU([e~_m of the H heads] + W_Res e_m)

    The paper's form has no scale, no biases and no layer norm; `authors_program` adds biases and
    ReLU to the four projections, the scale and a layer norm of the output (reading 37). Keras's
    MultiHeadAttention always scales and projects the heads once more, so it does not serve.

    Args:
        units: width of the output, all heads together.
        num_heads: H; divides `units`.
        residual: whether W_Res exists; Fi-GNN's attention has none.
        scale: divide the scores by the square root of a head's width.
        authors_program: the program's form.
        dropout: rate on the attention weights, in training.

    Raises:
        ValueError: `units` is not a positive multiple of `num_heads`.
    """

    def __init__(
        self,
        units: int,
        num_heads: int = 1,
        residual: bool = True,
        scale: bool = False,
        authors_program: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads < 1 or units < 1 or units % num_heads:
            raise ValueError(f"units must be a multiple of num_heads, got {units} and {num_heads}")
        self.units = units
        self.num_heads = num_heads
        self.residual = residual
        self.scale = scale
        self.authors_program = authors_program
        self.dropout = dropout
        policy = self.dtype_policy
        names = ["query", "key", "value", *(["skip"] if residual else [])]
        self.projections = [
            keras.layers.Dense(
                units,
                activation="relu" if authors_program else None,
                use_bias=authors_program,
                dtype=policy,
                name=name,
            )
            for name in names
        ]
        self.drop = keras.layers.Dropout(dropout, dtype=policy)
        self.norm = (
            keras.layers.LayerNormalization(epsilon=1e-8, dtype=policy, name="norm")
            if authors_program
            else None
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for projection in self.projections:
            projection.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.units))
        self.built = True

    def weights_by_head(self, vectors: Any) -> Any:
        """alpha of each head: (B, F, D) to (B, H, F, F)."""
        query, key = (self._heads(project(vectors)) for project in self.projections[:2])
        scores = ops.matmul(query, ops.swapaxes(key, 2, 3))
        if self.scale or self.authors_program:
            scores = scores / (self.units // self.num_heads) ** 0.5
        return ops.softmax(scores, axis=-1)

    def _heads(self, x: Any) -> Any:
        """(B, F, units) to (B, H, F, units / H)."""
        shape = (-1, x.shape[1], self.num_heads, self.units // self.num_heads)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps (B, F, D) to (B, F, units)."""
        weights = self.drop(self.weights_by_head(vectors), training=training)
        mixed = ops.matmul(weights, self._heads(self.projections[2](vectors)))
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        out = ops.reshape(mixed, (-1, vectors.shape[1], self.units))
        if self.residual:
            out = out + self.projections[3](vectors)
        out = ops.relu(out)
        return out if self.norm is None else self.norm(out)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "num_heads": self.num_heads,
            "residual": self.residual,
            "scale": self.scale,
            "authors_program": self.authors_program,
            "dropout": self.dropout,
        }
