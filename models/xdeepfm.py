"""xDeepFM."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.cin import CIN
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.layers.flatten_fields import flatten_fields
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Lian et al., KDD 2018"


@register(
    "cin",
    paper=_PAPER,
    order="2 to L + 1",
    use="xDeepFM without its network: vector-wise interactions of bounded order, additive",
    hidden_units=[],
)
@register(
    "xdeepfm",
    paper=_PAPER,
    order="2 to L + 1 and implicit",
    use="DeepFM with explicit interactions beyond pairs: accurate, the slowest of the deep ones",
)
@keras.saving.register_keras_serializable(package="ctr")
class XDeepFM(CTRModel):
    """y = w0 + sum_i w_i x_i + w_cin . p + w_dnn . MLP([x_1 v_1, ..., x_F v_F])   (eq. 9).

    p are the pooled maps of a compressed interaction network: identity activation, no split, no
    bias (reading 37). The outputs have no bias, since w0 is it. The explanation splits all but
    the network's part.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        cin_units: number of maps of each layer of the CIN.
        hidden_units: size of each hidden layer of the network; none for the CIN alone.
        activation: of the hidden layers.
        batch_norm: whether each hidden layer is normalized.
        dropout: rate after each hidden layer, in training.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        cin_units: Sequence[int] = (64, 64),
        hidden_units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.cin_units = list(cin_units)
        self.hidden_units = list(hidden_units)
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        policy = self.dtype_policy
        self.first_order = FirstOrder(self.features)
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.interaction = CIN(self.cin_units, dtype=policy)
        self.projection = keras.layers.Dense(1, use_bias=False, dtype=policy, name="projection")
        self.network = (
            MLP(
                self.hidden_units,
                activation,
                batch_norm,
                dropout,
                output_dim=1,
                output_bias=False,
                dtype=policy,
            )
            if self.hidden_units
            else None
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        vectors = self.embedding(inputs)
        score = self.projection(self.interaction(vectors))
        if self.network is not None:
            score = score + self.network(flatten_fields(vectors), training=training)
        return self.first_order(inputs) + ops.cast(score, "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        vectors = ops.cast(self.embedding(inputs), "float32")
        readout = ops.squeeze(self.projection.kernel, axis=-1)
        return self.explanation(inputs, **self.interaction.explain(vectors, readout))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "cin_units": self.cin_units,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
