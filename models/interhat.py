"""Interpretable CTR prediction with hierarchical attention."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.attention_pooling import AttentionPooling
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.mlp import MLP
from models.layers.transformer_encoder import TransformerEncoder
from models.zoo import register


@register(
    "interhat",
    paper="Li et al., WSDM 2020",
    order="1 to L",
    use="says how much each order counts for a row, and which fields make it up",
)
@keras.saving.register_keras_serializable(package="ctr")
class InterHAt(CTRModel):
    """y = MLP(u),  u = sum_k a_k u_k   (InterHAt, hierarchical attention; reading 39).

        X_1 = Transformer(E),
        u_k = sum_j alpha_kj x_kj,  alpha_k = softmax_j(c_k . ReLU(W_k x_kj)),
        X_{k+1} = u_k * X_1 + X_k,
        a = softmax_k(c . ReLU(W u_k))

    Three orders, no bias in the aggregations. The Transformer is one encoder block. No first
    order, no mask (readings 2 and 3). order_k_weights[i, j] is alpha_ki alpha_(k-1)j: how much
    field i's part of order k rests on field j.

    Args:
        features: layout of the instance.
        embedding_dim: size D of the embeddings and of u.
        num_orders: highest order, at least 2.
        num_heads: of the Transformer; divides D.
        attention_dim: hidden size of the aggregations.
        hidden_units: of the final MLP; None for one layer of D / 2, as in the authors' program.
        dropout: rate in the Transformer and the MLP, in training.
        l2: coefficient of ||W||^2 of the aggregations.

    Raises:
        ValueError: `num_orders` below 2, or D not a multiple of `num_heads`.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_orders: int = 3,
        num_heads: int = 2,
        attention_dim: int = 16,
        hidden_units: Sequence[int] | None = None,
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if num_orders < 2:
            raise ValueError(f"num_orders must be at least 2, got {num_orders}")
        self.embedding_dim = embedding_dim
        self.num_orders = num_orders
        self.num_heads = num_heads
        self.attention_dim = attention_dim
        self.hidden_units = (
            [max(1, embedding_dim // 2)] if hidden_units is None else list(hidden_units)
        )
        self.dropout = dropout
        self.l2 = l2
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.transformer = TransformerEncoder(num_heads, dropout=dropout, dtype=policy)
        self.poolings = [
            AttentionPooling(attention_dim, l2=l2, use_bias=False, dtype=policy)
            for _ in range(num_orders)
        ]
        self.mixing = AttentionPooling(attention_dim, l2=l2, use_bias=False, dtype=policy)
        self.network = MLP(self.hidden_units, dropout=dropout, output_dim=1, dtype=policy)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        first = self.transformer(self.embedding(inputs), training=training)
        vectors, orders = first, []
        for pooling in self.poolings:
            if orders:
                vectors = ops.expand_dims(orders[-1], 1) * first + vectors
            orders.append(pooling(vectors))
        mixed = self.mixing(ops.stack(orders, axis=1))
        return ops.cast(self.network(mixed, training=training), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        first = self.transformer(self.embedding(inputs), training=False)
        vectors, before = first, self.poolings[0].attention(first)
        pooled, parts = self.poolings[0](first), {}
        for order, pooling in enumerate(self.poolings[1:], start=2):
            vectors = ops.expand_dims(pooled, 1) * first + vectors
            weights, pooled = pooling.attention(vectors), pooling(vectors)
            parts[f"order_{order}_weights"] = weights[:, :, None] * before[:, None, :]
            before = weights
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_orders": self.num_orders,
            "num_heads": self.num_heads,
            "attention_dim": self.attention_dim,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
            "l2": self.l2,
        }
