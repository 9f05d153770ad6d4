"""The field-aware embedding layer of FFM and AoAFFM."""

from typing import Any

import keras
from keras import ops

from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding


@keras.saving.register_keras_serializable(package="ctr")
class FieldAwareEmbedding(FeatureEmbedding):
    """One vector v_{i,f} of every feature i for each other field f (Juan et al. 2016).

    A row of the table holds the feature's F - 1 vectors side by side, so that an instance still
    costs one lookup per position. Fields are pooled before they are paired (reading 1): no feature
    meets its own field, whose vector the table leaves out (reading 9 counts F).

    Args:
        features: layout of the instance.
        dim: size D of each vector.
        initializer: of the table; N(0, 0.01) by default.

    Raises:
        ValueError: `dim` below 1 or a single field.
    """

    def __init__(
        self, features: Features, dim: int, initializer: Any = None, **kwargs: Any
    ) -> None:
        others = Features.from_config(features).num_fields - 1
        if others < 1:
            raise ValueError("field-aware vectors need at least two fields, got 1")
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        super().__init__(features, others * dim, initializer, **kwargs)
        self.vector_dim = dim

    def call(self, inputs: dict[str, Any]) -> Any:
        """Maps `ids`, `values` (B, P) to vectors (B, F, F - 1, D).

        Entry [:, i, k] is field i's vector for field k if k < i, for field k + 1 otherwise.
        """
        num_fields = self.features.num_fields
        return ops.reshape(super().call(inputs), (-1, num_fields, num_fields - 1, self.vector_dim))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.vector_dim}


def field_aware_products(vectors: Any) -> Any:
    """The products v_{i,f_j} * v_{j,f_i} of all pairs i < j, in the order of `pair_indices`.

    Maps the vectors of a `FieldAwareEmbedding`, (B, F, F - 1, D), to (B, R, D).
    """
    # Splits, not slices: the gradient of a slice is as large as what it was cut from, and F of
    # them would cost F^3 D; the gradient of a split is one concatenation.
    own = ops.unstack(vectors, axis=1)
    others = ops.unstack(vectors, axis=2)
    products = [
        ops.split(own[i], [i], axis=1)[1] * ops.split(others[i], [i + 1], axis=1)[1]
        for i in range(len(others))
    ]
    return ops.concatenate(products, axis=1)
