"""Deep Crossing."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.residual_unit import ResidualUnit
from models.zoo import register


@register(
    "deepcrossing",
    paper="Shan et al., KDD 2016",
    order="implicit",
    use="deep baseline that trains at any depth: residual units over the stacked embeddings",
)
@keras.saving.register_keras_serializable(package="ctr")
class DeepCrossing(CTRModel):
    """y = w . U_L(... U_1([x_1 v_1, ..., x_F v_F])) + b, U residual units   (Shan et al. 2016).

    No first-order part. As in every later comparison, the embedding has neither bias nor ReLU;
    the sum in a unit does have its ReLU (reading 37).

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        hidden_units: size of the hidden layer of each residual unit.
        dropout: rate after each hidden layer, in training.
        final_relu: whether the sum in a unit passes a ReLU.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        final_relu: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.hidden_units = list(hidden_units)
        self.dropout = dropout
        self.final_relu = final_relu
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.units = [
            ResidualUnit(size, dropout, final_relu, dtype=policy) for size in self.hidden_units
        ]
        self.score = keras.layers.Dense(1, dtype=policy, name="score")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x = flatten_fields(self.embedding(inputs))
        for unit in self.units:
            x = unit(x, training=training)
        return ops.cast(self.score(x), "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
            "final_relu": self.final_relu,
        }
