"""The scores of a one-layer ReLU network on the products of all pairs of fields, for training."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from models.layers.own_gradient import in_blocks, own_gradient
from models.layers.pair_maps import fold_pairs
from models.layers.pairs_by_field import gradient_of_products, products_of_pairs
from models.layers.relu_scores import relu_scores

# Numbers that stay in the cores' caches: 3 MB.
_CACHED = 786_432


def pair_metric(vectors: Any, kernel: Any, bias: Any, direction: Any) -> Any:
    """h . ReLU(W (v_i * v_j) + b) for all i and j: (B, F, D) to (B, F, F), symmetric.

    Each pair counts once, all pairs of a block of examples in one product of matrices, with the
    gradient by hand: three times as fast as a product for each hidden unit, five on few fields.

    Args:
        vectors: v.
        kernel: W, (D, T).
        bias: b, (T,).
        direction: h, (T, 1).
    """
    num_fields, dim = vectors.shape[1:]
    numbers_per_example = num_fields * (num_fields + 1) // 2 * dim
    scores = _scores_in_blocks(max(16, min(128, _CACHED // numbers_per_example)))
    return scores(ops.transpose(vectors, (1, 0, 2)), kernel, bias, direction)


@functools.cache
def _scores_in_blocks(size: int) -> Callable[..., Any]:
    return own_gradient(in_blocks(size, axes=(1,), backward=_gradient)(_scores))


def _scores(by_field: Any, kernel: Any, bias: Any, direction: Any) -> tuple[Any]:
    """The value, as matrices (B, F, F)."""
    num_fields, dim = by_field.shape[0], by_field.shape[-1]
    pairs = np.triu_indices(num_fields)
    products = products_of_pairs(by_field, pairs)
    scores = relu_scores(ops.reshape(products, (-1, dim)), kernel, bias, direction)
    scores = ops.reshape(scores, (len(pairs[0]), -1))
    numbers = np.zeros((num_fields, num_fields), "int32")
    numbers[pairs] = numbers[pairs[::-1]] = np.arange(len(pairs[0]))
    matrices = ops.transpose(ops.take(scores, numbers.ravel(), axis=0))
    return (ops.reshape(matrices, (-1, num_fields, num_fields)),)


def _gradient(
    by_field: Any, kernel: Any, bias: Any, direction: Any, upstream: Any
) -> tuple[Any, ...]:
    """The gradients of `_scores`; what is cheaper made again than kept is made again."""
    num_fields, dim = by_field.shape[0], by_field.shape[-1]
    pairs = np.triu_indices(num_fields)
    of_pairs = fold_pairs(ops.transpose(ops.reshape(upstream, (-1, num_fields**2))), num_fields)
    products = ops.reshape(products_of_pairs(by_field, pairs), (-1, dim))
    gradient = relu_scores.with_gradient(products, kernel, bias, direction)[1]
    of_products, *of_weights = gradient(ops.reshape(of_pairs, (-1, 1)))
    of_products = ops.reshape(of_products, (len(pairs[0]), -1, dim))
    return gradient_of_products(by_field, pairs, of_products), *of_weights
