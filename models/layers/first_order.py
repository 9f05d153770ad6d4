"""The linear part shared by the factorization-machine family: w0 + sum_i w_i x_i."""

from typing import Any

import keras
from keras import ops

from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding


@keras.saving.register_keras_serializable(package="ctr")
class FirstOrder(keras.layers.Layer):
    """Global bias and one weight per feature: w0 + sum_i w_i x_i (reading 3).

    Always float32: the sum is the logit's own scale, and costs nothing.

    Args:
        features: layout of the instance.
        initializer: of the weights w; zeros by default, as in the authors' programs.
        use_bias: whether w0 exists.
    """

    def __init__(
        self,
        features: Features,
        initializer: Any = "zeros",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.features = Features.from_config(features)
        self.initializer = keras.initializers.get(initializer)
        self.use_bias = use_bias
        self.weight = FeatureEmbedding(
            self.features, 1, self.initializer, dtype="float32", name="weight"
        )

    def build(self, *_: Any, **__: Any) -> None:
        self.weight.build()
        self.bias = (
            self.add_weight(name="bias", shape=(1,), initializer="zeros", autocast=False)
            if self.use_bias
            else None
        )
        self.built = True

    def call(self, inputs: dict[str, Any]) -> Any:
        """Maps `ids`, `values` (B, P) to the linear score (B, 1)."""
        score = ops.sum(self.weight(inputs), axis=1)
        return score if self.bias is None else score + self.bias

    def contributions(self, inputs: dict[str, Any]) -> Any:
        """The summand of each field, (B, F), without the bias."""
        return ops.squeeze(self.weight(inputs), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": self.features.to_config(),
            "initializer": keras.initializers.serialize(self.initializer),
            "use_bias": self.use_bias,
        }
