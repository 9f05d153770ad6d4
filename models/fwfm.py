"""Field-weighted Factorization Machine."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.field_weighted_interaction import FieldWeightedInteraction
from models.layers.first_order import FirstOrder
from models.layers.fm_interaction import gram_contributions
from models.zoo import register


@register(
    "fwfm",
    paper="Pan et al., WWW 2018",
    order="2",
    use="near FFM's quality at the FM's size: one weight per pair of fields, additive",
)
@keras.saving.register_keras_serializable(package="ctr")
class FwFM(CTRModel):
    """y = w0 + sum_i w_i x_i + sum_{i<j} r_{f_i,f_j} <v_i, v_j> x_i x_j   (Pan et al. 2018).

    Pairs are pairs of fields (reading 1), the linear part is the family's (reading 3; the paper
    also tries vectors in its place).

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
    """

    def __init__(self, features: Features, embedding_dim: int = 16, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=self.dtype_policy)
        self.interaction = FieldWeightedInteraction(dtype=self.dtype_policy)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        pairs = self.interaction(self.embedding(inputs))
        return self.first_order(inputs) + ops.cast(pairs, "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        ones, halves = gram_contributions(ops.cast(self.embedding(inputs), "float32"))
        weights = ones * self.interaction.matrix()
        return self.explanation(
            inputs, order_2_weights=weights, order_2_contributions=weights * halves
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "embedding_dim": self.embedding_dim}
