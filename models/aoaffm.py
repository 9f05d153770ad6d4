"""Attention-over-Attention Field-aware Factorization Machine, and its ablations."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.attention_pooling import AttentionPooling
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.field_aware_embedding import FieldAwareEmbedding, field_aware_products
from models.layers.first_order import FirstOrder
from models.layers.interaction_attention import InteractionAttention
from models.layers.pairs import pairs_to_matrix, pairwise_products, present_pairs
from models.zoo import register

_PAPER = "Wang et al., AAAI 2020"
_INTERACTION_ATTENTION = ("scalar", "vector", "none")


@register(
    "aoaffm",
    paper=_PAPER,
    order="2",
    use="FFM vectors, attention and one more weight per field pair, against redundant features",
)
@register(
    "aoafm",
    paper=_PAPER,
    order="2",
    use="AFM with one more weight per field pair: same size, tells redundant features apart",
    field_aware=False,
)
@register(
    "affm",
    paper=_PAPER,
    order="2",
    use="AFM over field-aware vectors: AoAFFM without its interaction-level attention",
    interaction_attention="none",
)
@keras.saving.register_keras_serializable(package="ctr")
class AoAFFM(CTRModel):
    """y = w0 + sum_i w_i x_i + p . sum_{i<j} q_ij a_ij (v_{i,f_j} * v_{j,f_i}) x_i x_j

    Equation 5 of Wang et al. 2020, its brackets read as the element-wise product (reading 6). a is
    AFM's softmax over the pairs that exist (eq. 4, readings 1 and 2), Q one weight per pair of
    fields, outside the softmax and near 1 at the start (readings 7 and 8); p starts at ones, as
    AFM's does. Dropout falls on q a (v * v) (reading 10). No batch normalization: the paper does
    not say where (reading 9).

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        attention_dim: hidden size t1 of the feature-level attention network.
        field_aware: FFM's vectors; False for FM's, v_{i,f} = v_i (AoAFM).
        interaction_attention: "scalar" for Q of shape (R,), "vector" for (R, D), "none" for no Q.
        dropout: rate on the weighted interactions, in training.
        attention_l2: coefficient lambda_1 of ||W||^2 (eq. 6; reading 4 on its scale).
        interaction_l2: coefficient lambda_2 of ||Q||^2.

    Raises:
        ValueError: another `interaction_attention`, or field-aware vectors for a single field.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        attention_dim: int = 16,
        field_aware: bool = True,
        interaction_attention: str = "scalar",
        dropout: float = 0.0,
        attention_l2: float = 0.0,
        interaction_l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if interaction_attention not in _INTERACTION_ATTENTION:
            raise ValueError(
                f"interaction_attention must be one of {', '.join(_INTERACTION_ATTENTION)}, "
                f"got {interaction_attention!r}"
            )
        self.embedding_dim = embedding_dim
        self.attention_dim = attention_dim
        self.field_aware = field_aware
        self.interaction_attention = interaction_attention
        self.dropout = dropout
        self.attention_l2 = attention_l2
        self.interaction_l2 = interaction_l2
        policy = self.dtype_policy
        self.first_order = FirstOrder(self.features)
        embedding = FieldAwareEmbedding if field_aware else FeatureEmbedding
        self.embedding = embedding(self.features, embedding_dim, dtype=policy)
        self.pooling = AttentionPooling(attention_dim, dropout, attention_l2, dtype=policy)
        self.second_attention = (
            InteractionAttention(interaction_attention == "vector", interaction_l2, dtype=policy)
            if interaction_attention != "none"
            else None
        )
        self.projection = keras.layers.Dense(
            1, use_bias=False, kernel_initializer="ones", dtype=policy, name="projection"
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        interactions = self.interactions(inputs)
        pooled = self.pooling(
            interactions,
            present=present_pairs(self.present(inputs)),
            training=training,
            **self._importance(interactions),
        )
        return self.first_order(inputs) + ops.cast(self.projection(pooled), "float32")

    def _importance(self, interactions: Any) -> dict[str, Any]:
        """What the pooling takes Q as: scalars go to the (B, R) weights, past the vectors."""
        if self.second_attention is None:
            return {}
        if self.interaction_attention == "vector":
            return {"values": self.second_attention(interactions)}
        if not self.second_attention.built:
            self.second_attention.build(interactions.shape)
        weight = ops.squeeze(self.second_attention.weight, axis=-1)
        return {"factors": ops.cast(weight, interactions.dtype)}

    def interactions(self, inputs: dict[str, Any]) -> Any:
        """The product matrix P of eq. 3: element-wise products of all pairs, (B, R, D)."""
        vectors = self.embedding(inputs)
        return field_aware_products(vectors) if self.field_aware else pairwise_products(vectors)

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Weights are q_ij a_ij; with one q per dimension a_ij alone."""
        interactions = self.interactions(inputs)
        attention = self.pooling.attention(interactions, present_pairs(self.present(inputs)))
        importance = self._importance(interactions)
        weights = attention * importance["factors"] if "factors" in importance else attention
        values = ops.squeeze(self.projection(importance.get("values", interactions)), axis=-1)
        num_fields = self.features.num_fields
        return self.explanation(
            inputs,
            order_2_weights=pairs_to_matrix(weights, num_fields),
            order_2_contributions=pairs_to_matrix(0.5 * weights * values, num_fields),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "attention_dim": self.attention_dim,
            "field_aware": self.field_aware,
            "interaction_attention": self.interaction_attention,
            "dropout": self.dropout,
            "attention_l2": self.attention_l2,
            "interaction_l2": self.interaction_l2,
        }
