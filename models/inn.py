"""Interaction-aware Neural Network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.features import Features
from models.gim import GIM
from models.layers.mlp import MLP
from models.zoo import register


@register(
    "inn",
    paper="Hong et al., AAAI 2019",
    order="2, then implicit",
    use="IFM's weighted pairs read by a network instead of summed: stronger, not additive",
)
@keras.saving.register_keras_serializable(package="ctr")
class INN(GIM):
    """y = w0 + sum_i w_i x_i + MLP(concat_{i<j} F_ij * T_ij v_i * v_j x_i x_j)

    GIM with G an MLP (Hong et al. 2019, eq. 14-15): ReLU hidden layers, one linear output with a
    bias (reading 16). The concatenation needs all pairs in fixed places, so there is no sampling.

    Args:
        features: layout of the instance, at least two fields.
        embedding_dim: size K of v.
        attention_dim: hidden size K_a of the attention network.
        field_factors: K_F of the factorized field aspect.
        temperature: tau.
        feature_aspect: whether T is learned; otherwise 1.
        field_aspect: "factorized", "full" or "none".
        hidden_units: sizes of the hidden layers; the paper gives none, the authors' program one
            layer of 5.
        dropout: rate on the weighted interactions, in training.
        attention_activation: of the attention network (reading 15).
        field_l2: lambda_F (readings 4 and 14).
        l2: coefficient of the MLP's squared kernels.
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
        hidden_units: Sequence[int] = (64,),
        dropout: float = 0.0,
        attention_activation: str = "relu",
        field_l2: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            features,
            embedding_dim,
            attention_dim,
            field_factors,
            temperature,
            feature_aspect,
            field_aspect,
            dropout=dropout,
            attention_activation=attention_activation,
            field_l2=field_l2,
            **kwargs,
        )
        self.hidden_units = list(hidden_units)
        self.l2 = l2
        self.mlp = MLP(self.hidden_units, l2=l2, output_dim=1, dtype=self.dtype_policy)

    def combine(self, interactions: Any, training: bool | None = None) -> Any:
        _, num_pairs, dim = interactions.shape
        flat = ops.reshape(interactions, (-1, num_pairs * dim))
        return ops.cast(self.mlp(flat, training=training), "float32")

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "hidden_units": self.hidden_units, "l2": self.l2}
        del config["sampling"]
        return config
