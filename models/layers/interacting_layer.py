"""AutoInt's interacting layer: multi-head self-attention over the fields."""

from typing import Any

import keras
from keras import ops

from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class InteractingLayer(keras.layers.Layer):
    """Updates each field by the fields it attends to (AutoInt, eq. 5-8).

        alpha_mk = softmax_k((W_Q e_m) . (W_K e_k)),    e~_m = sum_k alpha_mk W_V e_k,
        out_m = ReLU([e~_m of the H heads] + W_Res e_m)

    The paper's form has no scale, no biases and no layer norm; `authors_program` adds biases and
    ReLU to the four projections, the scale and a layer norm of the output (reading 37). Keras's
    MultiHeadAttention always scales and projects the heads once more, so it does not serve. The
    heads are computed one by one: an axis of heads would have to be transposed to and fro, which
    costs a CPU a tenth of the layer forwards and a fifth in training.

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
        self.drop = Dropout(dropout, dtype=policy)
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
        heads = self._columns_by_head()
        return ops.stack([self._weights(vectors, columns) for columns in heads], axis=1)

    def _columns_by_head(self) -> list[slice]:
        size = self.units // self.num_heads
        return [slice(start, start + size) for start in range(0, self.units, size)]

    def _weights(self, vectors: Any, columns: slice) -> Any:
        """alpha of the head with these columns, (B, F, F)."""
        query, key = (self._project(layer, vectors, columns) for layer in self.projections[:2])
        scores = ops.matmul(query, ops.swapaxes(key, 1, 2))
        if self.scale or self.authors_program:
            scores = scores / (self.units // self.num_heads) ** 0.5
        return ops.softmax(scores, axis=-1)

    def _project(self, layer: Any, vectors: Any, columns: slice = slice(None)) -> Any:
        """A projection's columns of all fields, (B, F, number of columns)."""
        fields, dim = vectors.shape[1:]
        # Cast here, not by Keras: explanations call this outside of the layer's `__call__`.
        rows = ops.cast(ops.reshape(vectors, (-1, dim)), self.compute_dtype)
        out = ops.matmul(rows, ops.cast(layer.kernel[:, columns], self.compute_dtype))
        if layer.use_bias:
            out = out + ops.cast(layer.bias[columns], self.compute_dtype)
        return ops.reshape(layer.activation(out), (-1, fields, out.shape[-1]))

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps (B, F, D) to (B, F, units)."""
        mixed = []
        for columns in self._columns_by_head():
            weights = self.drop(self._weights(vectors, columns), training=training)
            value = self._project(self.projections[2], vectors, columns)
            mixed.append(ops.matmul(weights, value))
        out = ops.concatenate(mixed, axis=-1)
        if self.residual:
            out = out + self._project(self.projections[3], vectors)
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
