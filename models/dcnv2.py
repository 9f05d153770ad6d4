"""Deep & Cross Network, version 2."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.cross_network_v2 import CrossNetworkV2
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Wang et al., WWW 2021"


@register(
    "crossnetv2",
    paper=_PAPER,
    order="2 to L + 1",
    use="DCNv2 without its network: every pair of dimensions crossed, additive, orders bounded",
    hidden_units=[],
)
@register(
    "dcnv2-lowrank",
    paper=_PAPER,
    order="2 to L + 1 and implicit",
    use="DCNv2 where F times D is large: cross matrices of rank 32 cost a fraction",
    rank=32,
)
@register(
    "dcnv2-stacked",
    paper=_PAPER,
    order="2 to L + 1, then implicit",
    use="DCNv2 whose network reads the crosses: try beside the parallel form on large data",
    structure="stacked",
)
@register(
    "dcnv2",
    paper=_PAPER,
    order="2 to L + 1 and implicit",
    use="strong default among deep models: full cross matrices beside a network",
)
@keras.saving.register_keras_serializable(package="ctr")
class DCNv2(CTRModel):
    """Cross network x_{l+1} = x_0 * (W_l x_l + b_l) + x_l with an MLP (Wang et al. 2021, eq. 1-4).

        parallel:  y = w . [x_L, MLP(x_0)] + b,    stacked:  y = w . MLP(x_L) + b

    x_0 = [x_1 v_1, ..., x_F v_F]; the bias stands inside the product (reading 36). No first-order
    part beside it. The explanation of the parallel form splits w . x_L; that of the stacked form
    has the norms of the blocks of W_l alone, since a network follows.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v.
        num_layers: number of cross layers.
        rank: of W_l; None for a whole matrix.
        structure: "parallel" or "stacked".
        hidden_units: size of each hidden layer of the network; none for the cross network alone.
        activation: of the hidden layers.
        batch_norm: whether each hidden layer is normalized.
        dropout: rate after each hidden layer, in training.

    Raises:
        ValueError: another structure.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        rank: int | None = None,
        structure: str = "parallel",
        hidden_units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if structure not in ("parallel", "stacked"):
            raise ValueError(f"structure must be 'parallel' or 'stacked', got {structure!r}")
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.rank = rank
        self.structure = structure
        self.hidden_units = list(hidden_units)
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.cross = CrossNetworkV2(num_layers, rank, dtype=policy)
        self.network = (
            MLP(self.hidden_units, activation, batch_norm, dropout, dtype=policy)
            if self.hidden_units
            else None
        )
        self.score = keras.layers.Dense(1, dtype=policy, name="score")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x = flatten_fields(self.embedding(inputs))
        crossed = self.cross(x)
        if self.network is None:
            combined = crossed
        elif self.structure == "stacked":
            combined = self.network(crossed, training=training)
        else:
            combined = ops.concatenate([crossed, self.network(x, training=training)], axis=-1)
        return ops.cast(self.score(combined), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x = ops.cast(flatten_fields(self.embedding(inputs)), "float32")
        num_fields = self.features.num_fields
        if self.structure == "stacked" and self.network is not None:
            rows = ops.zeros_like(x[:, :1, None])
            norms = [self.cross.block_norms(layer, num_fields) for layer in range(self.num_layers)]
            parts = {f"order_{layer + 2}_weights": rows + norm for layer, norm in enumerate(norms)}
        else:
            bias = ops.zeros_like(x[:, :1]) + self.score.bias
            readout = self.score.kernel[: x.shape[-1], 0]
            parts = {"bias": bias, **self.cross.explain(x, readout, num_fields)}
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "rank": self.rank,
            "structure": self.structure,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
