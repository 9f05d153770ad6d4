"""DeepFM."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.flatten_fields import flatten_fields
from models.layers.fm_interaction import FMInteraction, gram_contributions
from models.layers.mlp import MLP
from models.zoo import register


@register(
    "deepfm",
    paper="Guo et al., IJCAI 2017",
    order="2 and implicit",
    use="first deep model to try: an FM, explained pair by pair, and a network on one embedding",
)
@keras.saving.register_keras_serializable(package="ctr")
class DeepFM(CTRModel):
    """y = y_FM + y_DNN, both from the same embeddings   (Guo et al. 2017, eq. 1-4).

        y_FM = w0 + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j
        y_DNN = h . MLP([x_1 v_1, ..., x_F v_F])

    The network's output has no bias, since w0 is it. The explanation splits y_FM; what the logit
    has beyond it is the network's.

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
        self.interaction = FMInteraction(dtype=self.dtype_policy)
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
        vectors = self.embedding(inputs)
        pooled = ops.cast(self.interaction(vectors), "float32")
        deep = self.network(flatten_fields(vectors), training=training)
        pairs = ops.sum(pooled, axis=-1, keepdims=True)
        return self.first_order(inputs) + pairs + ops.cast(deep, "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        weights, contributions = gram_contributions(self.embedding(inputs))
        return self.explanation(
            inputs, order_2_weights=weights, order_2_contributions=contributions
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
