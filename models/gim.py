"""Generalized Interaction-aware Model: what IFM, INN and DeepIFM have in common."""

from typing import Any

from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.interaction_aware import InteractionAware
from models.layers.pairs import pairs_to_matrix


class GIM(CTRModel):
    """y = w0 + sum_i w_i x_i + G({T_ij v_i * v_j x_i x_j}, {F_ij})   (Hong et al. 2019, eq. 12).

    A subclass defines G in `combine`. Both its forms in the paper only use the products of the
    two sets' elements (eq. 13 and 14), which is what G is given.

    Args:
        features: layout of the instance, at least two fields.
        embedding_dim: size K of v.
        attention_dim: hidden size K_a of the attention network.
        field_factors: K_F, far below K (eq. 10).
        temperature: tau; 10 in the paper's experiments.
        feature_aspect: whether T is learned; otherwise 1.
        field_aspect: "factorized" F (eq. 6), "full" (IFM-) or "none", F = 1.
        sampling: share of the pairs a training batch keeps; 1 for all.
        dropout: rate on T F v_i v_j, in training.
        attention_activation: of the attention network (reading 15).
        field_l2: lambda_F (reading 14; reading 4 on its scale).
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        attention_dim: int = 16,
        field_factors: int = 8,
        temperature: float = 10.0,
        feature_aspect: bool = True,
        field_aspect: str = "factorized",
        sampling: float = 1.0,
        dropout: float = 0.0,
        attention_activation: str = "relu",
        field_l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.attention_dim = attention_dim
        self.field_factors = field_factors
        self.temperature = temperature
        self.feature_aspect = feature_aspect
        self.field_aspect = field_aspect
        self.sampling = sampling
        self.dropout = dropout
        self.attention_activation = attention_activation
        self.field_l2 = field_l2
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=self.dtype_policy)
        self.interaction = InteractionAware(
            attention_dim,
            field_factors,
            temperature,
            feature_aspect,
            field_aspect,
            sampling,
            dropout,
            attention_activation,
            field_l2,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        interactions = self.interaction(
            self.embedding(inputs), present=self.present(inputs), training=training
        )
        return self.first_order(inputs) + self.combine(interactions, training)

    def combine(self, interactions: Any, training: bool | None = None) -> Any:
        """G: weighted interactions (B, R, D) to float32 (B, 1)."""
        raise TypeError(f"{type(self).__name__} does not define combine()")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The weight of a pair is T_ij ||F_ij||, an aspect that is off counting as 1."""
        weights = self.interaction.pair_weights(self.embedding(inputs), self.present(inputs))
        matrix = pairs_to_matrix(weights, self.features.num_fields)
        return self.explanation(inputs, order_2_weights=matrix)

    def pair_matrix(self, inputs: dict[str, Any]) -> Any:
        """sum_d T_ij F_ij v_i v_j, half of it at (i, j) and half at (j, i): (B, F, F)."""
        vectors, present = self.embedding(inputs), self.present(inputs)
        interactions = self.interaction(vectors, present=present, training=False)
        pairs = ops.sum(ops.cast(interactions, "float32"), axis=-1)
        return pairs_to_matrix(0.5 * pairs, self.features.num_fields)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "attention_dim": self.attention_dim,
            "field_factors": self.field_factors,
            "temperature": self.temperature,
            "feature_aspect": self.feature_aspect,
            "field_aspect": self.field_aspect,
            "sampling": self.sampling,
            "dropout": self.dropout,
            "attention_activation": self.attention_activation,
            "field_l2": self.field_l2,
        }
