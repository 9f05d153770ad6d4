"""DeepIFM: DeepFM with IFM for its FM part."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.features import Features
from models.ifm import IFM
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Hong et al., AAAI 2019"


@register(
    "deepifm",
    paper=_PAPER,
    order="2 and implicit",
    use="IFM beside an MLP: both the weighted pairs and whatever else the vectors tell",
)
@register(
    "deepifm-sampling",
    paper=_PAPER,
    order="2 and implicit",
    use="DeepIFM for many fields: trains its IFM part on a tenth of the pairs",
    sampling=0.1,
)
@keras.saving.register_keras_serializable(package="ctr")
class DeepIFM(IFM):
    """y = IFM(x) + MLP(concat_i v_i x_i)   (Hong et al. 2019, below eq. 15).

    The wide part of DeepFM is IFM's; both parts share the embeddings. `deepifm-sampling` keeps
    the paper's 10 % (Table 4; reading 17). The explanation covers the IFM part: what the MLP adds
    is the logit less the sum of the explanation.

    Args:
        features: layout of the instance, at least two fields.
        embedding_dim: size K of v.
        attention_dim: hidden size K_a of the attention network.
        field_factors: K_F of the factorized field aspect.
        temperature: tau.
        feature_aspect: whether T is learned; otherwise 1.
        field_aspect: "factorized", "full" or "none".
        sampling: share of the pairs a training batch keeps; 1 for all.
        hidden_units: sizes of the MLP's hidden layers; the authors' program's by default.
        batch_norm: whether the hidden layers normalize.
        dropout: rate on the weighted interactions, in training.
        hidden_dropout: rate after each hidden layer, in training.
        attention_activation: of the attention network; "tanh" in the program (reading 15).
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
        sampling: float = 1.0,
        hidden_units: Sequence[int] = (100, 75, 50),
        batch_norm: bool = False,
        dropout: float = 0.0,
        hidden_dropout: float = 0.0,
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
            sampling,
            dropout,
            attention_activation,
            field_l2,
            **kwargs,
        )
        self.hidden_units = list(hidden_units)
        self.batch_norm = batch_norm
        self.hidden_dropout = hidden_dropout
        self.l2 = l2
        self.mlp = MLP(
            self.hidden_units,
            batch_norm=batch_norm,
            dropout=hidden_dropout,
            l2=l2,
            output_dim=1,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        vectors = self.embedding(inputs)
        interactions = self.interaction(vectors, present=self.present(inputs), training=training)
        width = self.features.num_fields * self.embedding_dim
        deep = self.mlp(ops.reshape(vectors, (-1, width)), training=training)
        wide = self.first_order(inputs) + self.combine(interactions, training)
        return wide + ops.cast(deep, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "batch_norm": self.batch_norm,
            "hidden_dropout": self.hidden_dropout,
            "l2": self.l2,
        }
