"""Linear maps of the products of all pairs of fields, a field with itself among them."""

from typing import Any

import numpy as np
from keras import ops

from models.layers.own_gradient import in_blocks, own_gradient
from models.layers.pairs_by_field import gradient_of_products, products_of_pairs

# Examples whose products stay in cache: 3 MB at F 39 and D 16.
_BLOCK = 64


def fold_pairs(kernel: Any, num_fields: int) -> Any:
    """What falls to v_i * v_j for i <= j, weights or gradients, of that for all i and j.

    Args:
        kernel: (F F, H), row i F + j for fields i and j.

    Returns:
        (F (F + 1) / 2, H), in the order (0, 0), (0, 1), ..., (0, F-1), (1, 1), ...
    """
    first, second = np.triu_indices(num_fields)
    share = np.where(first == second, 0.5, 1.0)[:, None]
    matrix = ops.reshape(kernel, (num_fields, num_fields, -1))
    both = ops.reshape(matrix + ops.swapaxes(matrix, 0, 1), kernel.shape)
    return ops.take(both, first * num_fields + second, axis=0) * ops.cast(share, kernel.dtype)


def maps_of_pairs(by_field: Any, kernel: Any) -> Any:
    """sum_{i<=j} W_ijh v_i * v_j for every map h.

    Args:
        by_field: v, (F, B, D).
        kernel: W, (F (F + 1) / 2, H), as `fold_pairs` orders it.

    Returns:
        (B, D, H).
    """
    products = products_of_pairs(by_field, np.triu_indices(by_field.shape[0]))
    maps = ops.matmul(ops.transpose(ops.reshape(products, (kernel.shape[0], -1))), kernel)
    return ops.reshape(maps, (-1, by_field.shape[2], kernel.shape[1]))


def _gradient(by_field: Any, kernel: Any, upstream: Any) -> tuple[Any, Any]:
    """The gradients of `maps_of_pairs`."""
    pairs = np.triu_indices(by_field.shape[0])
    products = products_of_pairs(by_field, pairs)
    rows = ops.reshape(upstream, (-1, kernel.shape[1]))
    of_kernel = ops.matmul(ops.reshape(products, (kernel.shape[0], -1)), rows)
    of_products = ops.matmul(kernel, ops.transpose(rows))
    of_products = ops.reshape(of_products, (kernel.shape[0], -1, by_field.shape[2]))
    return gradient_of_products(by_field, pairs, of_products), of_kernel


@own_gradient
@in_blocks(_BLOCK, axes=(1,), backward=_gradient)
def train_maps_of_pairs(by_field: Any, kernel: Any) -> tuple[Any]:
    """`maps_of_pairs` with its gradient by hand, in blocks of examples."""
    return (maps_of_pairs(by_field, kernel),)
