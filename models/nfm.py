"""Neural Factorization Machine."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.dropout import Dropout
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.fm_interaction import FMInteraction
from models.layers.mlp import MLP
from models.zoo import register


@register(
    "nfm",
    paper="He and Chua, SIGIR 2017",
    order="2, then implicit",
    use="small deep model: its network reads D pooled numbers, however many the fields",
)
@keras.saving.register_keras_serializable(package="ctr")
class NFM(CTRModel):
    """y = w0 + sum_i w_i x_i + h . MLP(sum_{i<j} x_i v_i * x_j v_j)   (He and Chua 2017, eq. 7).

    The pooled vector passes batch norm and dropout before the network; h has no bias, since w0 is
    it (readings 3 and 43).

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        hidden_units: size of each hidden layer; none makes it an FM whose dimensions are weighed.
        activation: of the hidden layers.
        batch_norm: whether the pooled vector and each hidden layer are normalized.
        interaction_dropout: rate on the pooled vector, in training.
        dropout: rate after each hidden layer, in training.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        hidden_units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        batch_norm: bool = False,
        interaction_dropout: float = 0.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.hidden_units = list(hidden_units)
        self.activation = activation
        self.batch_norm = batch_norm
        self.interaction_dropout = interaction_dropout
        self.dropout = dropout
        policy = self.dtype_policy
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.interaction = FMInteraction(dtype=policy)
        self.norm = (
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy)
            if batch_norm
            else None
        )
        self.drop = Dropout(interaction_dropout, dtype=policy)
        self.network = MLP(
            self.hidden_units,
            activation,
            batch_norm,
            dropout,
            output_dim=1,
            output_bias=False,
            dtype=policy,
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        pooled = self.interaction(self.embedding(inputs))
        if self.norm is not None:
            pooled = self.norm(pooled, training=training)
        deep = self.network(self.drop(pooled, training=training), training=training)
        return self.first_order(inputs) + ops.cast(deep, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "interaction_dropout": self.interaction_dropout,
            "dropout": self.dropout,
        }
