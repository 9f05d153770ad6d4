"""Product-based Neural Networks."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.dropout import Dropout
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.mlp import MLP
from models.layers.product_layer import ProductLayer
from models.zoo import register

_PAPER = "Qu et al., ICDM 2016"


@register(
    "opnn",
    paper=_PAPER,
    order="2, then implicit",
    use="PNN for many fields: one outer product of the summed vectors, however many they are",
    product="superposition",
)
@register(
    "ipnn",
    paper=_PAPER,
    order="2, then implicit",
    use="deep model that reads all inner products: often better than the plain network it extends",
)
@keras.saving.register_keras_serializable(package="ctr")
class PNN(CTRModel):
    """y = w . MLP(ReLU(l_z + l_p + b_1)) + b   (Qu et al. 2016, eq. 1-4).

    l_z is linear in the field vectors, l_p in their products: the paper's own forms (reading 41).
    No first-order part.

    Args:
        features: layout of the instance.
        embedding_dim: size D of the field vectors.
        product: "full" or "factorised" inner products, or "superposition" of outer ones.
        hidden_units: size of the product layer, then of each hidden layer.
        activation: of the product layer and the hidden layers.
        dropout: rate after each of them, in training.

    Raises:
        ValueError: no hidden unit, or another product.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        product: str = "full",
        hidden_units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if not hidden_units:
            raise ValueError("hidden_units needs the product layer's size at least, got none")
        self.embedding_dim = embedding_dim
        self.product = product
        self.hidden_units = list(hidden_units)
        self.activation = activation
        self.dropout = dropout
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.products = ProductLayer(self.hidden_units[0], product, dtype=policy)
        self.signal = keras.layers.Activation(activation, dtype=policy)
        self.drop = Dropout(dropout, dtype=policy)
        self.network = MLP(
            self.hidden_units[1:], activation, dropout=dropout, output_dim=1, dtype=policy
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        signal = self.signal(self.products(self.embedding(inputs)))
        deep = self.network(self.drop(signal, training=training), training=training)
        return ops.cast(deep, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "product": self.product,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "dropout": self.dropout,
        }
