"""The field-aware embedding layer of FFM and AoAFFM."""

from typing import Any

import keras
import numpy as np
from keras import ops

from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.own_gradient import own_gradient
from models.layers.pairs import pair_indices


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


@own_gradient
def field_aware_products(vectors: Any) -> Any:
    """The products v_{i,f_j} * v_{j,f_i} of all pairs i < j, in the order of `pair_indices`.

    Maps the vectors of a `FieldAwareEmbedding`, (B, F, F - 1, D), to (B, R, D).
    """
    # Two gathers, not slices or splits: those cut 2 F strided pieces and concatenate them again.
    # The gradient of a gather is a slow scatter. Here every vector is in exactly one pair, so that
    # it is a gather too, by the inverse permutation.
    num_fields, others, dim = vectors.shape[1:]
    flat = ops.reshape(vectors, (-1, num_fields * others, dim))
    first, second = (ops.take(flat, places, axis=1) for places in _places(num_fields))

    def gradient(upstream: Any) -> Any:
        by_pair = ops.concatenate([upstream * second, upstream * first], axis=1)
        inverse = np.argsort(np.concatenate(_places(num_fields)))
        by_place = ops.take(by_pair, inverse.astype("int32"), axis=1)
        return ops.reshape(by_place, (-1, num_fields, others, dim))

    return first * second, gradient


def _places(num_fields: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the vectors v_{i,f_j} and v_{j,f_i} of each pair lie among the F (F - 1) of a row."""
    rows, columns = pair_indices(num_fields)
    first, second = rows * (num_fields - 1) + columns - 1, columns * (num_fields - 1) + rows
    return first.astype("int32"), second.astype("int32")
