"""The same networks as plain Keras 3 writes them: `Embedding` layers and a Keras optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from models.layers import own_gradient
from models.layers.attention_pooling import AttentionPooling
from models.layers.feature_embedding import FeatureEmbedding, pool_positions
from models.layers.pair_attention_pooling import PairAttentionPooling
from models.layers.pairs import pairwise_products


@contextmanager
def plain_embeddings() -> Iterator[None]:
    """While active, models are built and traced as one would write them in plain Keras.

    Lookups go through `keras.layers.Embedding`; pair products, attention scores and their pooling
    are written out, with the gradient that automatic differentiation gives them.
    """
    build, call = FeatureEmbedding.build, FeatureEmbedding.call

    def plain_build(self: FeatureEmbedding, *_: Any, **__: Any) -> None:
        self.lookup = keras.layers.Embedding(
            self.features.num_features, self.dim, embeddings_initializer=self.initializer
        )
        self.lookup.build((None, self.features.num_positions))
        self.built = True

    def plain_call(self: FeatureEmbedding, inputs: dict[str, Any]) -> Any:
        values = keras.ops.expand_dims(inputs["values"], -1)
        return pool_positions(self.lookup(inputs["ids"]) * values, self.features)

    def plain_pooling(self: PairAttentionPooling, vectors: Any, present: Any, **call: Any) -> Any:
        return AttentionPooling.call(self, pairwise_products(vectors), present=present, **call)

    pooling, without_gradient = PairAttentionPooling.call, own_gradient._without_gradient
    FeatureEmbedding.build, FeatureEmbedding.call = plain_build, plain_call
    PairAttentionPooling.call = plain_pooling
    own_gradient._without_gradient = lambda tensors: True
    try:
        yield
    finally:
        FeatureEmbedding.build, FeatureEmbedding.call = build, call
        PairAttentionPooling.call = pooling
        own_gradient._without_gradient = without_gradient
