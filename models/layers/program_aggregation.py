"""The interaction aggregation of the GraphFM authors' program."""

from typing import Any

import keras
from keras import ops

from models.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="ctr")
class ProgramAggregation(keras.layers.Layer):
    """Interaction aggregation as the GraphFM authors' program computes it (readings 31, 32, 35).

        c_ij = p_ij ReLU(a . (e_i * e_j) + b),    alpha_i = softmax of c_ij over all fields,
        e'_i = LayerNorm_i(ReLU(sum_j alpha_ij W_i (e_i * e_j) + ReLU(R_i e_i + r_i)))

    An interaction that was not selected has p_ij = 0, hence score 0 and still a share of the
    softmax. W, R and the layer norm are of each target field i; a is shared by the fields.

    Args:
        units: width of the output, all heads together.
        num_heads: H; divides `units`.
        dropout: rate on the weights alpha, in training.

    Raises:
        ValueError: `units` is not a positive multiple of `num_heads`.
    """

    def __init__(self, units: int, num_heads: int = 1, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_heads < 1 or units < 1 or units % num_heads:
            raise ValueError(f"units must be a multiple of num_heads, got {units} and {num_heads}")
        self.units = units
        self.num_heads = num_heads
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, vectors_shape: tuple[int | None, ...], **_: Any) -> None:
        _, fields, dim = vectors_shape
        heads, units = self.num_heads, self.units
        # Glorot's bound for one field's matrix; the initializer itself would count the fields in.
        limit = (6 / (dim + units)) ** 0.5
        by_field = keras.initializers.RandomUniform(-limit, limit)
        self.query = self.add_weight(name="query", shape=(dim, heads), initializer="glorot_uniform")
        self.query_bias = self.add_weight(name="query_bias", shape=(heads,), initializer="zeros")
        self.kernel = self.add_weight(
            name="kernel", shape=(fields, dim, heads, units // heads), initializer=by_field
        )
        self.residual = self.add_weight(
            name="residual", shape=(fields, dim, units), initializer=by_field.clone()
        )
        self.residual_bias = self.add_weight(
            name="residual_bias", shape=(fields, units), initializer="zeros"
        )
        self.scale = self.add_weight(
            name="scale", shape=(fields, units), initializer="ones", autocast=False
        )
        self.shift = self.add_weight(
            name="shift", shape=(fields, units), initializer="zeros", autocast=False
        )
        self.built = True

    def weights_by_head(self, vectors: Any, edges: Any) -> Any:
        """alpha_ij of each head, (B, H, F, F), of vectors (B, F, D) and p (B, F, F)."""
        fields, dim = vectors.shape[1:]
        queries = ops.expand_dims(ops.transpose(self.query), 1)
        left = ops.reshape(
            ops.expand_dims(vectors, 1) * queries, (-1, self.num_heads * fields, dim)
        )
        products = ops.matmul(left, ops.swapaxes(vectors, 1, 2))
        scores = ops.reshape(products, (-1, self.num_heads, fields, fields))
        scores = ops.relu(scores + ops.reshape(self.query_bias, (-1, 1, 1)))
        return ops.softmax(ops.expand_dims(edges, 1) * scores, axis=-1)

    def call(self, vectors: Any, edges: Any, training: bool | None = None) -> Any:
        """Maps e (B, F, D) and p (B, F, F), 0 where not selected, to updates (B, F, units)."""
        fields, dim = vectors.shape[1:]
        weights = self.drop(self.weights_by_head(vectors, edges), training=training)
        flat = ops.reshape(weights, (-1, self.num_heads * fields, fields))
        gathered = ops.reshape(ops.matmul(flat, vectors), (-1, self.num_heads, fields, dim))
        gathered = gathered * ops.expand_dims(vectors, 1)
        messages = ops.einsum("bhfd,fdhu->bfhu", gathered, self.kernel)
        residual = ops.einsum("bfd,fdu->bfu", vectors, self.residual) + self.residual_bias
        messages = ops.reshape(messages, (-1, fields, self.units)) + ops.relu(residual)
        return self._normalize(ops.relu(messages))

    def _normalize(self, x: Any) -> Any:
        # In float32: with the program's epsilon of 1e-8 the variance must not be rounded.
        x = ops.cast(x, "float32")
        mean, variance = ops.moments(x, axes=[-1], keepdims=True)
        normalized = (x - mean) * ops.rsqrt(variance + 1e-8)
        return ops.cast(normalized * self.scale + self.shift, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
        }
