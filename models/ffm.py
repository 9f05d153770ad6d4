"""Field-aware Factorization Machine."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.dropout import Dropout
from models.layers.field_aware_embedding import FieldAwareEmbedding, field_aware_products
from models.layers.first_order import FirstOrder
from models.layers.pairs import pairs_to_matrix
from models.zoo import register


@register(
    "ffm",
    paper="Juan et al., RecSys 2016",
    order="2",
    use="few fields, or a small embedding: additive and strong, with F - 1 times the FM's table",
)
@keras.saving.register_keras_serializable(package="ctr")
class FFM(CTRModel):
    """y = w0 + sum_i w_i x_i + sum_{i<j} <v_{i,f_j}, v_{j,f_i}> x_i x_j

    Juan et al. 2016 with the linear part of Wang et al. 2020, eq. 2 (reading 3). Each feature has
    one vector per other field (readings 1 and 9). A far smaller D than the FM's usually suffices.

    Args:
        features: layout of the instance.
        embedding_dim: size D of each v.
        dropout: rate on the pairs' products, in training.
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
        self.embedding = FieldAwareEmbedding(self.features, embedding_dim, dtype=self.dtype_policy)
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        products = self.drop(field_aware_products(self.embedding(inputs)), training=training)
        pairs = ops.sum(ops.cast(products, "float32"), axis=(1, 2))
        return self.first_order(inputs) + ops.expand_dims(pairs, -1)

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        products = field_aware_products(self.embedding(inputs))
        num_fields = self.features.num_fields
        contributions = ops.sum(ops.cast(products, "float32"), axis=-1)
        return self.explanation(
            inputs,
            order_2_weights=pairs_to_matrix(ops.ones_like(contributions), num_fields),
            order_2_contributions=pairs_to_matrix(0.5 * contributions, num_fields),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "dropout": self.dropout,
        }
