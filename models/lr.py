"""Logistic regression."""

from typing import Any

import keras

from models.base import CTRModel
from models.features import Features
from models.layers.first_order import FirstOrder
from models.zoo import register


@register(
    "lr",
    paper="McMahan et al., KDD 2013",
    order="1",
    use="the floor every other model must beat: no interactions, fastest, fully explained",
)
@keras.saving.register_keras_serializable(package="ctr")
class LR(CTRModel):
    """y = w0 + sum_i w_i x_i.

    Args:
        features: layout of the instance.
    """

    def __init__(self, features: Features, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        self.first_order = FirstOrder(self.features)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return self.first_order(inputs)
