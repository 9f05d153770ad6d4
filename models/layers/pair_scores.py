"""Attention over the products of all pairs of fields: scores and weighted sum, gradients by hand.

The R = F (F - 1) / 2 products of a batch are tensors of B R D numbers, and passes over them are
the cost of the whole model. So they are made once, for the scores; the weighted sum takes the
(F, F) matrix of the weights instead. Pairs come first and examples second, (R, B, ...), so that
picking a pair's fields moves whole blocks of memory.
"""

from typing import Any

import numpy as np
from keras import ops

from models.layers.own_gradient import own_gradient
from models.layers.pairs import check_pairs, pair_indices


def pair_scores(vectors: Any, kernel: Any, bias: Any, direction: Any) -> Any:
    """h . ReLU(W (v_i * v_j) + b) of every pair: (B, F, D) to (R, B).

    With M = [W u + b > 0] ds for a pair's product u and the gradient ds of its score,

        dW = (u^T M) h,  db = (1^T M) h,  dh = sum_d W_d (u^T M)_d + b (1^T M),  du = M (W h)^T

    Args:
        vectors: v.
        kernel: W, (D, T).
        bias: b, (T,).
        direction: h, (T, 1).

    Raises:
        ValueError: a single field.
    """
    check_pairs(vectors.shape[1])
    return _scores(vectors, kernel, bias, direction)


def sum_of_pairs(vectors: Any, weights: Any) -> Any:
    """sum_{i<j} a_ij v_i * v_j = 1/2 sum_i v_i * (A v)_i: (B, F, D) and (R, B) to (B, D)."""
    return _weighted_sum(vectors, weights)


@own_gradient
def _scores(vectors: Any, kernel: Any, bias: Any, direction: Any) -> Any:
    num_fields, dim = vectors.shape[1:]
    by_field = ops.transpose(vectors, (1, 0, 2))
    first, second = pair_indices(num_fields)
    products = ops.take(by_field, first, axis=0) * ops.take(by_field, second, axis=0)
    products = ops.reshape(products, (-1, dim))
    hidden = ops.matmul(products, kernel) + bias

    def gradient(upstream: Any) -> tuple[Any, Any, Any, Any]:
        # A product with ones spreads the scores' gradient over T, faster than broadcasting it.
        ones = ops.ones_like(ops.transpose(direction))
        spread = ops.matmul(ops.reshape(upstream, (-1, 1)), ones)
        active = ops.cast(hidden > 0, spread.dtype) * spread
        outer, total = ops.matmul(ops.transpose(products), active), ops.sum(active, axis=0)
        weights = ops.squeeze(direction, axis=-1)
        d_direction = ops.expand_dims(ops.sum(kernel * outer, axis=0) + bias * total, axis=-1)
        d_products = ops.matmul(active, ops.transpose(kernel * weights))
        d_products = ops.reshape(d_products, (len(first), -1, dim))
        d_vectors = ops.transpose(_gradient_of_products(by_field, d_products), (1, 0, 2))
        return d_vectors, outer * weights, total * weights, d_direction

    return ops.reshape(ops.matmul(ops.relu(hidden), direction), (len(first), -1)), gradient


def _gradient_of_products(by_field: Any, upstream: Any) -> Any:
    """sum_j upstream_ij * v_j for every field i: (F, B, D) and (R, B, D) to (F, B, D)."""
    num_fields = by_field.shape[0]
    others = np.array([[j for j in range(num_fields) if j != i] for i in range(num_fields)])
    pairs = _numbers(num_fields)[np.arange(num_fields)[:, None], others]
    # One term for each other field, F rows each: XLA makes a single loop of all of them.
    terms = [
        ops.take(upstream, pairs[:, k], axis=0) * ops.take(by_field, others[:, k], axis=0)
        for k in range(num_fields - 1)
    ]
    return sum(terms[1:], terms[0])


@own_gradient
def _weighted_sum(vectors: Any, weights: Any) -> Any:
    num_fields = vectors.shape[1]
    weighted = ops.matmul(_symmetric(weights, num_fields), vectors)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        upstream = ops.expand_dims(upstream, axis=1)
        first, second = pair_indices(num_fields)
        of_all = ops.matmul(vectors * upstream, ops.transpose(vectors, (0, 2, 1)))
        of_all = ops.transpose(ops.reshape(of_all, (-1, num_fields * num_fields)))
        return upstream * weighted, ops.take(of_all, first * num_fields + second, axis=0)

    return 0.5 * ops.sum(vectors * weighted, axis=1), gradient


def _symmetric(weights: Any, num_fields: int) -> Any:
    """Weights of pairs (R, B) as symmetric matrices (B, F, F), 0 on the diagonal."""
    padded = ops.pad(weights, [[0, 1], [0, 0]])
    matrices = ops.take(padded, _numbers(num_fields).ravel(), axis=0)
    return ops.transpose(ops.reshape(matrices, (num_fields, num_fields, -1)), (2, 0, 1))


def _numbers(num_fields: int) -> np.ndarray:
    """Number of the pair {i, j} among the pairs, (F, F); R on the diagonal."""
    rows, columns = pair_indices(num_fields)
    numbers = np.full((num_fields, num_fields), len(rows))
    numbers[rows, columns] = numbers[columns, rows] = np.arange(len(rows))
    return numbers
