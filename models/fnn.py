"""Factorization-machine supported Neural Network."""

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
    "fnn",
    paper="Zhang et al., ECIR 2016",
    order="implicit",
    use="a network on a trained FM: set init_from to an FM run",
)
@keras.saving.register_keras_serializable(package="ctr")
class FNN(CTRModel):
    """y = w . MLP(z) + b,  z = [w0, x_1 w_1, x_1 v_1, ..., x_F w_F, x_F v_F]   (Zhang et al. 2016).

    w0, w and v are an FM's, from which they should be copied; they are the network's input, and
    its layers are tanh, as in the paper (reading 41: to later papers FNN is an MLP on embeddings).
    The first-order weights enter the network and have no part of the logit of their own, so the
    explanation has none.

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
        activation: str = "tanh",
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
            dtype=self.dtype_policy,
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        total = self.first_order(inputs)
        linear = self.first_order.contributions(inputs)
        bias = total - ops.sum(linear, axis=-1, keepdims=True)
        vectors = self.embedding(inputs)
        weights = ops.cast(ops.expand_dims(linear, -1), vectors.dtype)
        fields = flatten_fields(ops.concatenate([weights, vectors], axis=-1))
        z = ops.concatenate([ops.cast(bias, vectors.dtype), fields], axis=-1)
        return ops.cast(self.network(z, training=training), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"logit": self(inputs, training=False)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
