"""AutoInt: feature interactions by self-attention, alone and beside a deep network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.interacting_layer import InteractingLayer
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Song et al., CIKM 2019"


@register(
    "autoint",
    paper=_PAPER,
    order="2 to L + 1, by attention",
    use="self-attention over the fields: says which fields each field looked at",
    hidden_units=(),
)
@register(
    "autoint+",
    paper=_PAPER,
    order="2 to L + 1, by attention, and implicit",
    use="AutoInt beside a deep network: usually the better of the two",
    hidden_units=(400, 400),
)
@keras.saving.register_keras_serializable(package="ctr")
class AutoInt(CTRModel):
    """y = w . [e_1 || ... || e_F] + b of the last interacting layer's output (AutoInt, eq. 9).

    AutoInt+ adds a network of the concatenated embeddings to the logit. No first-order part and
    no mask (readings 2 and 3). The explanation's weights are each layer's attention, the mean of
    its heads: what the fields contribute cannot be told apart through the ReLUs of several layers.

    Args:
        features: layout of the instance.
        embedding_dim: size D of e.
        num_layers: interacting layers, at least 1.
        attention_dim: width of each layer, all heads together.
        num_heads: H; divides `attention_dim`.
        hidden_units: the network's hidden layers; empty for AutoInt without it.
        batch_norm: in the hidden layers.
        dropout: rate on the attention weights and in the hidden layers, in training.
        authors_program: scale, biases, ReLU on the projections, layer norms and a projected
            residual in every layer, as the authors' program has them and the paper does not
            (reading 37).

    Raises:
        ValueError: `num_layers` below 1 or `attention_dim` not a multiple of `num_heads`.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        attention_dim: int = 64,
        num_heads: int = 2,
        hidden_units: Sequence[int] = (),
        batch_norm: bool = False,
        dropout: float = 0.0,
        authors_program: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.attention_dim = attention_dim
        self.num_heads = num_heads
        self.hidden_units = list(hidden_units)
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.authors_program = authors_program
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.interactions = [
            InteractingLayer(
                attention_dim,
                num_heads,
                authors_program=authors_program,
                dropout=dropout,
                dtype=policy,
            )
            for _ in range(num_layers)
        ]
        self.projection = keras.layers.Dense(1, dtype=policy, name="projection")
        self.network = (
            MLP(
                self.hidden_units,
                batch_norm=batch_norm,
                dropout=dropout,
                output_dim=1,
                dtype=policy,
            )
            if self.hidden_units
            else None
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        base = self.embedding(inputs)
        vectors = base
        for layer in self.interactions:
            vectors = layer(vectors, training=training)
        logit = self.projection(flatten_fields(vectors))
        if self.network is not None:
            logit = logit + self.network(flatten_fields(base), training=training)
        return ops.cast(logit, "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        vectors = self.embedding(inputs)
        parts = {}
        for order, layer in enumerate(self.interactions, start=2):
            parts[f"order_{order}_weights"] = ops.mean(layer.weights_by_head(vectors), axis=1)
            vectors = layer(vectors, training=False)
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "attention_dim": self.attention_dim,
            "num_heads": self.num_heads,
            "hidden_units": self.hidden_units,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
            "authors_program": self.authors_program,
        }
