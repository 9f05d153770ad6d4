"""The shared shape of a click model: `ids` and `values` in, a logit out, and its explanation."""

from typing import Any

import keras
from keras import ops

from models.features import Features
from models.layers.feature_embedding import present_fields


class CTRModel(keras.Model):
    """Base of every model of the family.

    A subclass creates its layers in `__init__`, writes the paper's equations in `call` and, where
    the model has explicit interactions, overrides `explain`. A model with a first-order part
    keeps it in `self.first_order`; the feature embeddings stand in `self.embedding`, where
    pre-training finds them.

    Args:
        features: layout of the instance, or the dict its `to_config` gave.
    """

    def __init__(self, features: Features | dict[str, Any], **kwargs: Any) -> None:
        # Each layer casts to its own compute dtype; the values must reach the embedding exact.
        super().__init__(autocast=False, **kwargs)
        self.features = Features.from_config(features)
        self.first_order = None

    def build(self, input_shape: Any = None) -> None:
        """Creates every weight by one symbolic pass: the layout alone fixes all shapes."""
        if not self.built:
            self.call(self.symbolic_inputs(), training=False)
            self.built = True

    def symbolic_inputs(self) -> dict[str, keras.KerasTensor]:
        """Placeholders of one batch: `ids` and `values`, each (None, P)."""
        shape = (None, self.features.num_positions)
        return {
            "ids": keras.KerasTensor(shape, "int32", name="ids"),
            "values": keras.KerasTensor(shape, "float32", name="values"),
        }

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """The logit (B, 1), float32, of `ids` int (B, P) and `values` float (B, P)."""
        raise TypeError(f"{type(self).__name__} does not define call()")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the logit is made of, as float32 tensors.

        Always `logit` (B, 1); `bias` (B, 1) and `first_order` (B, F) where the model has a linear
        part. Models with explicit interactions add `order_k_weights` and `order_k_contributions`,
        each (B, F, F). For a model that is a sum over pairs, bias + first order + all entries of
        the contributions = logit: an unordered pair's share is split evenly over (i, j) and
        (j, i).
        """
        return self.explanation(inputs)

    def explanation(self, inputs: dict[str, Any], **interactions: Any) -> dict[str, Any]:
        """Puts logit and linear part beside the `order_k_*` matrices given."""
        parts = {"logit": self(inputs, training=False)}
        if self.first_order is not None:
            linear = self.first_order(inputs)
            first_order = self.first_order.contributions(inputs)
            parts["bias"] = linear - ops.sum(first_order, axis=-1, keepdims=True)
            parts["first_order"] = first_order
        parts.update(interactions)
        return {name: ops.cast(part, "float32") for name, part in parts.items()}

    @property
    def explanation_keys(self) -> list[str]:
        """Names of the tensors `explain` returns, in order."""
        return list(self.explain(self.symbolic_inputs()))

    def present(self, inputs: dict[str, Any]) -> Any:
        """Which fields carry a feature, bool (B, F): the set of pairs of AFM, AoAFFM and IFM."""
        return present_fields(inputs["values"], self.features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features.to_config()}
