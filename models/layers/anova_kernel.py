"""The ANOVA kernel: products of all sets of t different fields, in linear time."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class AnovaKernel(keras.layers.Layer):
    """A^t(v) = sum_{i_1 < ... < i_t} v_{i_1} * ... * v_{i_t}   (Blondel et al. 2016).

    The element-wise form, as the FM's pooled vector; order 2 equals it. Computed by the recursion
    of Blondel et al. over the fields, A^t_j = A^t_{j-1} + v_j A^{t-1}_{j-1}, which costs
    O(order F D) instead of F^order D.

    Args:
        order: t, the number of fields in each product.

    Raises:
        ValueError: `order` below 1.
    """

    def __init__(self, order: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.order = order

    def call(self, vectors: Any) -> Any:
        """Maps field vectors (B, F, D) to (B, D)."""
        return elementary_sums(vectors, self.order)[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "order": self.order}


def elementary_sums(vectors: Any, order: int) -> list[Any]:
    """A^0, ..., A^order of field vectors (B, F, D), each (B, D); A^0 is 1."""
    # One small step per field: a cumulative sum says the same, but is ten times slower on a CPU.
    one = ops.ones_like(vectors[:, 0])
    sums = [one] + [ops.zeros_like(one)] * order
    for vector in ops.unstack(vectors, axis=1):
        grown = [sums[t] + vector * sums[t - 1] for t in range(1, order + 1)]
        sums = [one, *grown]
    return sums


def pair_shares(vectors: Any, order: int) -> Any:
    """Splits sum_d A^order(v)_d over the ordered pairs of fields: (B, F, D) to (B, F, F).

    A product of t fields goes in equal shares to its t (t - 1) ordered pairs, so that entry (i, j)
    is sum_d v_i v_j A^{t-2}(the other fields) / (t (t - 1)). Leaving a field out divides the
    generating polynomial by (1 + v z); expanding both divisions gives a sum of O(t^2) matrix
    products, and nothing larger than (B, F, F).
    """
    rest = order - 2
    sums = elementary_sums(vectors, rest)
    powers = [vectors]
    for _ in range(rest):
        powers.append(-vectors * powers[-1])
    shares = 0.0
    for a in range(rest + 1):
        left = sum(powers[b] * sums[rest - a - b][:, None] for b in range(rest - a + 1))
        shares = shares + ops.matmul(left, ops.swapaxes(powers[a], 1, 2))
    off_diagonal = (1.0 - np.eye(vectors.shape[1])) / (order * (order - 1))
    return shares * ops.convert_to_tensor(off_diagonal, dtype=vectors.dtype)
