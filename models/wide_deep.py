"""Wide & Deep."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.flatten_fields import flatten_fields
from models.layers.mlp import MLP
from models.zoo import register


@register(
    "wide-deep",
    paper="Cheng et al., DLRS 2016",
    order="1 and implicit",
    use="plain deep baseline: memorizes by weights, generalizes by a network over embeddings",
)
@keras.saving.register_keras_serializable(package="ctr")
class WideDeep(CTRModel):
    """y = w0 + sum_i w_i x_i + h . MLP([x_1 v_1, ..., x_F v_F])   (Cheng et al. 2016, eq. 3).

    The wide part has the features alone: crossed columns are the data's affair, not the model's.
    The network's output has no bias, since w0 is it.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
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
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=self.dtype_policy)
        self.network = MLP(
            self.hidden_units,
            activation,
            batch_norm,
            dropout,
            output_dim=1,
            output_bias=False,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        deep = self.network(flatten_fields(self.embedding(inputs)), training=training)
        return self.first_order(inputs) + ops.cast(deep, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
