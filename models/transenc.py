"""Stacked Transformer encoder."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.transformer_encoder import TransformerEncoder
from models.zoo import register


@register(
    "trans-enc",
    paper="baseline of DA-HoFM, 2021; encoder of Vaswani et al., NeurIPS 2017",
    order="implicit, by attention",
    use="the standard Transformer as a yardstick for the attention models",
)
@keras.saving.register_keras_serializable(package="ctr")
class TransEnc(CTRModel):
    """y = w . [x_1 || ... || x_F] + b after a stack of Transformer encoder blocks.

    The baseline "Trans-Enc." of the DA-HoFM paper: three blocks, here post-norm, flattened to a
    linear head (reading 44). Fields need no position codes: their features' embeddings differ.
    The explanation's weights are each block's attention, the mean of its heads.

    Args:
        features: layout of the instance.
        embedding_dim: size D of the embeddings and of every block.
        num_layers: blocks, at least 1.
        num_heads: of each block; divides D.
        feedforward_dim: hidden size of each block's feed-forward step; None for 4 D.
        dropout: rate in the blocks, in training.

    Raises:
        ValueError: `num_layers` below 1 or D not a multiple of `num_heads`.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        num_heads: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.feedforward_dim = feedforward_dim
        self.dropout = dropout
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.encoders = [
            TransformerEncoder(num_heads, feedforward_dim, dropout, dtype=policy)
            for _ in range(num_layers)
        ]
        self.projection = keras.layers.Dense(1, dtype=policy, name="projection")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        vectors = self.embedding(inputs)
        for encoder in self.encoders:
            vectors = encoder(vectors, training=training)
        return ops.cast(self.projection(flatten_fields(vectors)), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        vectors = self.embedding(inputs)
        parts = {}
        for order, encoder in enumerate(self.encoders, start=2):
            parts[f"order_{order}_weights"] = ops.mean(encoder.weights_by_head(vectors), axis=1)
            vectors = encoder(vectors, training=False)
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "feedforward_dim": self.feedforward_dim,
            "dropout": self.dropout,
        }
