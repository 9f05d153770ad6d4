"""Pairs of fields i < j: enumerating them, and moving between pair lists and (F, F) matrices.

R = F (F - 1) / 2 pairs, in the order (0, 1), (0, 2), ..., (0, F-1), (1, 2), ...
"""

from typing import Any

import numpy as np
from keras import ops

from models.layers.own_gradient import own_gradient


def pair_indices(num_fields: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second field of each pair: two int arrays of length R."""
    rows, columns = np.triu_indices(num_fields, k=1)
    return rows, columns


def pair_numbers(num_fields: int) -> np.ndarray:
    """Number of the pair {i, j} among the pairs, (F, F); R, one past the last, on the diagonal."""
    rows, columns = pair_indices(num_fields)
    numbers = np.full((num_fields, num_fields), len(rows))
    numbers[rows, columns] = numbers[columns, rows] = np.arange(len(rows))
    return numbers


def check_pairs(num_fields: int) -> None:
    """Raises ValueError where there is no pair of fields."""
    if num_fields < 2:
        raise ValueError(f"pairs need at least two fields, got {num_fields}")


def pairwise_products(vectors: Any) -> Any:
    """The element-wise products v_i * v_j of all pairs: (B, F, D) to (B, R, D).

    Raises:
        ValueError: a single field.
    """
    check_pairs(vectors.shape[1])
    return _products(vectors)


@own_gradient
def _products(vectors: Any) -> Any:
    # Slices, not two gathers of R rows: a gather's gradient is a scatter, slow on a CPU. The
    # gradient by hand: each slice's own gradient is a tensor of all fields, mostly zeros, and
    # their sum takes half of AFM's training step.
    num_fields = vectors.shape[1]
    products = ops.concatenate(
        [vectors[:, i : i + 1] * vectors[:, i + 1 :] for i in range(num_fields - 1)], axis=1
    )
    return products, lambda upstream: _gradient_of_products(vectors, upstream)


def _gradient_of_products(vectors: Any, upstream: Any) -> Any:
    """Gradient of the products: sum_j upstream_ij * v_j for every field i, (B, F, D)."""
    num_fields = vectors.shape[1]
    as_first, as_second, start = [], 0, 0
    for i in range(num_fields - 1):
        pairs = upstream[:, start : start + num_fields - 1 - i]
        start += num_fields - 1 - i
        as_first.append(ops.sum(pairs * vectors[:, i + 1 :], axis=1, keepdims=True))
        later = pairs * vectors[:, i : i + 1]
        as_second += ops.pad(later, [[0, 0], [i + 1, 0], [0, 0]])
    as_first.append(ops.zeros_like(vectors[:, :1]))
    return ops.concatenate(as_first, axis=1) + as_second


def present_pairs(present: Any) -> Any:
    """Pairs whose two fields both carry a feature: bool (B, F) to bool (B, R).

    Raises:
        ValueError: a single field.
    """
    num_fields = present.shape[1]
    check_pairs(num_fields)
    return ops.concatenate(
        [
            ops.logical_and(present[:, i : i + 1], present[:, i + 1 :])
            for i in range(num_fields - 1)
        ],
        axis=1,
    )


def pairs_to_matrix(pairs: Any, num_fields: int) -> Any:
    """Lays pair values (B, R) out as symmetric (B, F, F) matrices with a zero diagonal."""
    padded = ops.pad(pairs, [[0, 0], [0, 1]])
    matrices = ops.take(padded, pair_numbers(num_fields).ravel(), axis=1)
    return ops.reshape(matrices, (-1, num_fields, num_fields))
