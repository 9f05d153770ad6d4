"""AutoInt's interacting layer: multi-head self-attention over the fields."""

from typing import Any

import keras
from keras import ops

from models.layers.dot_product_attention import attention_with_dropout
from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class InteractingLayer(keras.layers.Layer):
    """Updates each field by the fields it attends to (AutoInt, eq. 5-8).

        alpha_mk = softmax_k((W_Q e_m) . (W_K e_k)),    e~_m = sum_k alpha_mk W_V e_k,
        out_m = ReLU([e~_m of the H heads] + W_Res e_m)

    W_Res is there "in case of dimension mismatching": vectors as wide as the output are added as
    they are. The paper's form has no scale, no biases and no layer norm; `authors_program` adds
    biases and ReLU to the projections, W_Res whatever the widths, the scale and a layer norm of
    the output (reading 37). Keras's MultiHeadAttention always scales and projects the heads once
    more, so it does not serve.

    On a CPU small products of matrices cost alike for all widths up to some 32, so their number
    counts. The two projections of a score are therefore multiplied together first,

        W_Q e_m . W_K e_k = e_m A e_k,    sum_k alpha_mk W_V e_k = W_V sum_k alpha_mk e_k

    and all heads are rows of one product. Where that does not serve, for ReLUs on the projections
    or vectors wider than a head, each projection is one product and the heads attend one by one:
    an axis of heads would have to be transposed to and fro.

    Args:
        units: width of the output, all heads together.
        num_heads: H; divides `units`.
        residual: whether the vectors are added; they are not in Fi-GNN's attention.
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
        self.projections = [self._dense(name) for name in ("query", "key", "value")]
        self.skip: keras.layers.Dense | None = None
        self.drop = Dropout(dropout, dtype=policy)
        self.norm = (
            keras.layers.LayerNormalization(epsilon=1e-8, dtype=policy, name="norm")
            if authors_program
            else None
        )

    def _dense(self, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            self.units,
            activation="relu" if self.authors_program else None,
            use_bias=self.authors_program,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for projection in self.projections:
            projection.build(input_shape)
        if self.residual and (self.authors_program or input_shape[-1] != self.units):
            self.skip = self._dense("skip")
            self.skip.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.units))
        self.built = True

    def weights_by_head(self, vectors: Any) -> Any:
        """alpha of each head: (B, F, D) to (B, H, F, F)."""
        queries, keys = (self._by_head(layer, vectors) for layer in self.projections[:2])
        return ops.stack([*map(self._weights, queries, keys)], axis=1)

    def _weights(self, query: Any, key: Any) -> Any:
        """alpha of one head, (B, F, F), of its part of both projections."""
        return ops.softmax(self._factor() * ops.matmul(query, ops.swapaxes(key, 1, 2)), axis=-1)

    def _by_head(self, layer: Any, vectors: Any) -> list[Any]:
        """A projection of all fields, H times (B, F, units / H)."""
        return ops.split(self._project(layer, vectors), self.num_heads, axis=-1)

    def _factor(self) -> float:
        """What the scores are multiplied by."""
        scaled = self.scale or self.authors_program
        return (self.units // self.num_heads) ** -0.5 if scaled else 1.0

    def _project(self, layer: Any, vectors: Any) -> Any:
        """A projection of all fields, (B, F, units)."""
        fields, dim = vectors.shape[1:]
        # Cast here, not by Keras: explanations call this outside of the layer's `__call__`.
        rows = ops.cast(ops.reshape(vectors, (-1, dim)), self.compute_dtype)
        out = ops.matmul(rows, ops.cast(layer.kernel, self.compute_dtype))
        if layer.use_bias:
            out = out + ops.cast(layer.bias, self.compute_dtype)
        return ops.reshape(layer.activation(out), (-1, fields, self.units))

    def _mixed_at_once(self, vectors: Any, training: bool | None) -> Any:
        """[e~_m of the H heads], the projections multiplied together, (B, F, units)."""
        fields, dim = vectors.shape[1:]
        heads = (dim, self.num_heads, -1)
        query, key, value = (ops.reshape(layer.kernel, heads) for layer in self.projections)
        scores = self._factor() * ops.einsum("dhk,ehk->dhe", query, key)
        scores = ops.cast(ops.reshape(scores, (dim, -1)), self.compute_dtype)
        queries = ops.matmul(ops.reshape(vectors, (-1, dim)), scores)
        queries = ops.reshape(queries, (-1, fields * self.num_heads, dim))
        gathered = attention_with_dropout(self.drop, queries, vectors, training)
        # W_V as blocks on a diagonal: head h's columns take its own sums only.
        apart = ops.eye(self.num_heads, dtype=value.dtype)
        blocks = ops.einsum("dhk,gh->gdhk", value, apart)
        blocks = ops.cast(ops.reshape(blocks, (-1, self.units)), self.compute_dtype)
        mixed = ops.matmul(ops.reshape(gathered, (-1, self.num_heads * dim)), blocks)
        return ops.reshape(mixed, (-1, fields, self.units))

    def _mixed_by_head(self, vectors: Any, training: bool | None) -> Any:
        """[e~_m of the H heads], head by head, (B, F, units)."""
        mixed = []
        heads = (self._by_head(layer, vectors) for layer in self.projections)
        for query, key, value in zip(*heads, strict=True):
            weights = self.drop(self._weights(query, key), training=training)
            mixed.append(ops.matmul(weights, value))
        return ops.concatenate(mixed, axis=-1)

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps (B, F, D) to (B, F, units)."""
        narrow = vectors.shape[2] <= self.units // self.num_heads
        at_once = narrow and not self.authors_program
        out = (self._mixed_at_once if at_once else self._mixed_by_head)(vectors, training)
        if self.residual:
            out = out + (vectors if self.skip is None else self._project(self.skip, vectors))
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
