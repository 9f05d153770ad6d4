"""Attentional Factorization Machine."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.pair_attention_pooling import PairAttentionPooling
from models.layers.pairs import pairs_to_matrix, pairwise_products, present_pairs
from models.zoo import register


@register(
    "afm",
    paper="Xiao et al., IJCAI 2017",
    order="2",
    use="FM whose pairs are weighted by attention: additive, says which pairs matter for a row",
)
@keras.saving.register_keras_serializable(package="ctr")
class AFM(CTRModel):
    """y = w0 + sum_i w_i x_i + p . sum_{i<j} a_ij (v_i * v_j) x_i x_j   (Xiao et al. 2017, eq. 6).

    a_ij is a softmax over the pairs of fields that carry a feature (readings 1, 2 and 5). Dropout
    falls on a_ij (v_i * v_j) (reading 10).

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        attention_dim: hidden size T of the attention network.
        dropout: rate on the weighted interactions, in training.
        attention_l2: coefficient of ||W||^2 (reading 4: the paper's lambda over the batch size).
        projection_initializer: of p. Ones, as in the authors' program, make the untrained model an
            FM of averaged pairs; where vectors begin at random, signs that differ
            (`glorot_normal`) let factors repel as well as attract from the first step.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        attention_dim: int = 16,
        dropout: float = 0.0,
        attention_l2: float = 0.0,
        projection_initializer: Any = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.attention_dim = attention_dim
        self.dropout = dropout
        self.attention_l2 = attention_l2
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=self.dtype_policy)
        self.pooling = PairAttentionPooling(
            attention_dim, dropout, attention_l2, dtype=self.dtype_policy
        )
        self.projection = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer=self.projection_initializer,
            dtype=self.dtype_policy,
            name="projection",
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        present = present_pairs(self.present(inputs))
        pooled = self.pooling(self.embedding(inputs), present, training=training)
        return self.first_order(inputs) + ops.cast(self.projection(pooled), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        interactions = pairwise_products(self.embedding(inputs))
        weights = self.pooling.attention(interactions, present_pairs(self.present(inputs)))
        contributions = weights * ops.squeeze(self.projection(interactions), axis=-1)
        num_fields = self.features.num_fields
        return self.explanation(
            inputs,
            order_2_weights=pairs_to_matrix(weights, num_fields),
            order_2_contributions=pairs_to_matrix(0.5 * contributions, num_fields),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "attention_dim": self.attention_dim,
            "dropout": self.dropout,
            "attention_l2": self.attention_l2,
            "projection_initializer": keras.initializers.serialize(self.projection_initializer),
        }
