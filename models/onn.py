"""Operation-aware Neural Network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.field_aware_embedding import FieldAwareEmbedding, field_aware_products
from models.layers.flatten_fields import flatten_fields
from models.layers.mlp import MLP
from models.zoo import register


@register(
    "onn",
    paper="Yang et al., Neural Networks 2020",
    order="2, then implicit",
    use="few fields and much data: a vector per operation, so F times the table of a PNN",
)
@keras.saving.register_keras_serializable(package="ctr")
class ONN(CTRModel):
    """y = w . MLP([x_1 v_1, ..., x_F v_F, p_12, p_13, ...]) + b,  p_ij = <v_i,j, v_j,i> x_i x_j.

    Yang et al. 2020, section 3: each feature has one vector per operation it takes part in, that
    is one to be copied and one for the product with each other field. No first-order part.

    Args:
        features: layout of the instance; at least two fields.
        embedding_dim: size D of every vector.
        hidden_units: size of each hidden layer.
        activation: of the hidden layers.
        batch_norm: whether each hidden layer is normalized.
        dropout: rate after each hidden layer, in training.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        hidden_units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.hidden_units = list(hidden_units)
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.product_embedding = FieldAwareEmbedding(self.features, embedding_dim, dtype=policy)
        self.network = MLP(
            self.hidden_units, activation, batch_norm, dropout, output_dim=1, dtype=policy
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        copies = flatten_fields(self.embedding(inputs))
        products = ops.sum(field_aware_products(self.product_embedding(inputs)), axis=-1)
        deep = self.network(ops.concatenate([copies, products], axis=-1), training=training)
        return ops.cast(deep, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
