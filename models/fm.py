"""Factorization Machine."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.dropout import Dropout
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.fm_interaction import FMInteraction, gram_contributions
from models.zoo import register


@register(
    "fm",
    paper="Rendle, ICDM 2010",
    order="2",
    use="first baseline: fast, additive, every pair explained by an inner product",
)
@keras.saving.register_keras_serializable(package="ctr")
class FM(CTRModel):
    """y = w0 + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j   (Rendle 2010, eq. 1).

    Pairs are pairs of fields: a multi-valued field is pooled first (reading 1).

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        dropout: rate on the pooled interaction vector, in training.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=self.dtype_policy)
        self.interaction = FMInteraction(dtype=self.dtype_policy)
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        vectors = self.embedding(inputs)
        pooled = self.drop(self.interaction(vectors), training=training)
        pairs = ops.sum(ops.cast(pooled, "float32"), axis=-1, keepdims=True)
        return self.first_order(inputs) + pairs

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        weights, contributions = gram_contributions(self.embedding(inputs))
        return self.explanation(
            inputs, order_2_weights=weights, order_2_contributions=contributions
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "dropout": self.dropout,
        }
