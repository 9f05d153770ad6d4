"""Pairs of fields i < j: enumerating them, and moving between pair lists and (F, F) matrices.

R = F (F - 1) / 2 pairs, in the order (0, 1), (0, 2), ..., (0, F-1), (1, 2), ...
"""

from typing import Any

import numpy as np
from keras import ops


def pair_indices(num_fields: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second field of each pair: two int arrays of length R."""
    rows, columns = np.triu_indices(num_fields, k=1)
    return rows, columns


def pairwise_products(vectors: Any) -> Any:
    """The element-wise products v_i * v_j of all pairs: (B, F, D) to (B, R, D).

    Raises:
        ValueError: a single field.
    """
    num_fields = vectors.shape[1]
    if num_fields < 2:
        raise ValueError(f"pairs need at least two fields, got {num_fields}")
    # Slices, not two gathers of R rows: a gather's gradient is a scatter, slow on a CPU.
    return ops.concatenate(
        [vectors[:, i : i + 1] * vectors[:, i + 1 :] for i in range(num_fields - 1)], axis=1
    )


def present_pairs(present: Any) -> Any:
    """Pairs whose two fields both carry a feature: bool (B, F) to bool (B, R)."""
    num_fields = present.shape[1]
    return ops.concatenate(
        [
            ops.logical_and(present[:, i : i + 1], present[:, i + 1 :])
            for i in range(num_fields - 1)
        ],
        axis=1,
    )


def pairs_to_matrix(pairs: Any, num_fields: int) -> Any:
    """Lays pair values (B, R) out as symmetric (B, F, F) matrices with a zero diagonal."""
    rows, columns = pair_indices(num_fields)
    num_pairs = len(rows)
    # Index R is an appended column of zeros: what the diagonal points to.
    where = np.full((num_fields, num_fields), num_pairs)
    where[rows, columns] = where[columns, rows] = np.arange(num_pairs)
    padded = ops.pad(pairs, [[0, 0], [0, 1]])
    return ops.reshape(ops.take(padded, where.ravel(), axis=1), (-1, num_fields, num_fields))
