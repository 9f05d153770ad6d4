"""Deep & Cross Network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.cross_network import CrossNetwork
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Wang et al., ADKDD 2017"


@register(
    "crossnet",
    paper=_PAPER,
    order="2 to L + 1",
    use="DCN without its network: bounded orders for a few numbers per layer, additive",
    hidden_units=[],
)
@register(
    "dcn",
    paper=_PAPER,
    order="2 to L + 1 and implicit",
    use="deep model whose explicit crosses cost next to nothing; try DCNv2 where they matter",
)
@keras.saving.register_keras_serializable(package="ctr")
class DCN(CTRModel):
    """y = w . [x_L, MLP(x_0)] + b, x_0 = [x_1 v_1, ..., x_F v_F]   (Wang et al. 2017, eq. 5).

    x_L is the cross network's output: x_{l+1} = x_0 (x_l . w_l) + b_l + x_l (reading 36). No
    first-order part beside it. The explanation splits w . x_L; what the logit has beyond is the
    network's and b.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        num_layers: number of cross layers.
        hidden_units: size of each hidden layer of the network; none for the cross network alone.
        activation: of the hidden layers.
        batch_norm: whether each hidden layer is normalized.
        dropout: rate after each hidden layer, in training.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        hidden_units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.hidden_units = list(hidden_units)
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.cross = CrossNetwork(num_layers, dtype=policy)
        self.network = (
            MLP(self.hidden_units, activation, batch_norm, dropout, dtype=policy)
            if self.hidden_units
            else None
        )
        self.score = keras.layers.Dense(1, dtype=policy, name="score")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x = flatten_fields(self.embedding(inputs))
        combined = self.cross(x)
        if self.network is not None:
            deep = self.network(x, training=training)
            combined = ops.concatenate([combined, deep], axis=-1)
        return ops.cast(self.score(combined), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x = ops.cast(flatten_fields(self.embedding(inputs)), "float32")
        readout = self.score.kernel[: x.shape[-1], 0]
        parts = self.cross.explain(x, readout, self.features.num_fields)
        parts["bias"] = parts["bias"] + self.score.bias
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
