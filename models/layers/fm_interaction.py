"""The FM's pooled interaction vector, in linear time."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class FMInteraction(keras.layers.Layer):
    """sum_{i<j} v_i * v_j = ((sum_i v_i)^2 - sum_i v_i^2) / 2   (Rendle 2010, lemma 3.1).

    The element-wise form: NFM calls it bi-interaction; the sum of its D entries is the FM's pair
    term.
    """

    def call(self, vectors: Any) -> Any:
        """Maps field vectors (B, F, D) to the pooled vector (B, D)."""
        total = ops.sum(vectors, axis=1)
        return 0.5 * (ops.square(total) - ops.sum(ops.square(vectors), axis=1))


def gram_contributions(vectors: Any) -> tuple[Any, Any]:
    """Explanation of a plain sum over pairs: unit weights and <v_i, v_j> halves.

    Args:
        vectors: (B, F, D).

    Returns:
        weights (B, F, F), 1 off the diagonal; contributions (B, F, F), half the inner product in
        (i, j) and half in (j, i), zero diagonal.
    """
    off_diagonal = ops.convert_to_tensor(1.0 - np.eye(vectors.shape[1]), dtype=vectors.dtype)
    gram = ops.matmul(vectors, ops.swapaxes(vectors, 1, 2))
    contributions = 0.5 * gram * off_diagonal
    return ops.ones_like(gram) * off_diagonal, contributions
