"""Adaptive Factorization Network, alone and with a network beside it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.logarithmic_transformation import LogarithmicTransformation
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Cheng et al., AAAI 2020"


@register(
    "afn+",
    paper=_PAPER,
    order="learned and implicit",
    use="AFN beside a network with embeddings of its own: more accurate, twice the table",
    deep_units=[400, 400, 400],
)
@register(
    "afn",
    paper=_PAPER,
    order="learned, then implicit",
    use="when the right order is unknown: it is learned; millions of weights after the embedding",
    deep_units=[],
)
@keras.saving.register_keras_serializable(package="ctr")
class AFN(CTRModel):
    """y_AFN = w . MLP([y_1, ..., y_N]) + b,  y_n = exp(sum_i w_in ln |x_i v_i|).

    Cheng et al. 2020, section 3. With `deep_units` it is AFN+:

        y = w_1 y_AFN + w_2 MLP'([x_1 v'_1, ..., x_F v'_F]) + b,  v' from a table of its own,

    all trained together by the one loss (the authors' program trains the two networks by a loss
    each and stops the sum's gradient). Clip, batch norm and the absent bias of the logarithmic
    layer are reading 42's; its outputs enter the network by dimension, then neuron. No
    first-order part.

    Logarithms and powers are computed in float32 whatever the precision: a rounded exponent is a
    wrong factor.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v, and of v'.
        log_neurons: number N of logarithmic neurons.
        hidden_units: size of each hidden layer after them.
        deep_units: size of each hidden layer of the network beside; none for AFN.
        epsilon: least magnitude an entry of v counts with.
        activation: of the hidden layers.
        batch_norm: whether each hidden layer is normalized.
        dropout: rate after each hidden layer, in training.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        log_neurons: int = 600,
        hidden_units: Sequence[int] = (400, 400, 400),
        deep_units: Sequence[int] = (),
        epsilon: float = 1e-7,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        self.embedding_dim = embedding_dim
        self.log_neurons = log_neurons
        self.hidden_units = list(hidden_units)
        self.deep_units = list(deep_units)
        self.epsilon = epsilon
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        policy, exact = self.dtype_policy, self.dtype_policy.variable_dtype
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=exact)
        self.transformation = LogarithmicTransformation(log_neurons, epsilon, dtype=exact)
        self.network = self._network(self.hidden_units)
        if self.deep_units:
            self.deep_embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
            self.deep_network = self._network(self.deep_units)
            self.ensemble = keras.layers.Dense(
                1, kernel_initializer=keras.initializers.Constant(0.5), dtype=policy
            )

    def _network(self, units: list[int]) -> MLP:
        return MLP(
            units,
            self.activation,
            self.batch_norm,
            self.dropout,
            output_dim=1,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        products = self.transformation(self.embedding(inputs), training=training)
        score = self.network(flatten_fields(products), training=training)
        if self.deep_units:
            vectors = flatten_fields(self.deep_embedding(inputs))
            deep = self.deep_network(vectors, training=training)
            score = self.ensemble(ops.concatenate([score, deep], axis=-1))
        return ops.cast(score, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "log_neurons": self.log_neurons,
            "hidden_units": self.hidden_units,
            "deep_units": self.deep_units,
            "epsilon": self.epsilon,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
        }
