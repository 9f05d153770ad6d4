"""Attention over the products of all pairs of fields: scores and weighted sum, gradients by hand.

The R = F (F - 1) / 2 products of a batch are tensors of B R D numbers, and passes over them are
the cost of the whole model. So they are made once, for the scores; the weighted sum takes the
(F, F) matrix of the weights instead; and training goes through the batch in blocks. Pairs come
first and examples second, (R, B, ...), so that picking a pair's fields moves whole blocks of
memory.
"""

from typing import Any

import numpy as np
from keras import ops

from models.layers.masked_softmax import masked_softmax
from models.layers.own_gradient import in_blocks, own_gradient
from models.layers.pairs import check_pairs, pair_indices
from models.layers.relu_scores import relu_scores

# Examples whose products fit in the cores' caches: 3 MB at F 39 and D 16.
_BLOCK = 64


def pair_scores(vectors: Any, kernel: Any, bias: Any, direction: Any) -> Any:
    """h . ReLU(W (v_i * v_j) + b) of every pair: (B, F, D) to (R, B).

    Args:
        vectors: v.
        kernel: W, (D, T).
        bias: b, (T,).
        direction: h, (T, 1).

    Raises:
        ValueError: a single field.
    """
    check_pairs(vectors.shape[1])
    num_fields, dim = vectors.shape[1:]
    products = _products(ops.transpose(vectors, (1, 0, 2)))
    scores = relu_scores(ops.reshape(products, (-1, dim)), kernel, bias, direction)
    return ops.reshape(scores, (num_fields * (num_fields - 1) // 2, -1))


@own_gradient
def _products(by_field: Any) -> Any:
    """v_i * v_j of all pairs, (F, B, D) to (R, B, D)."""
    first, second = pair_indices(by_field.shape[0])
    products = ops.take(by_field, first, axis=0) * ops.take(by_field, second, axis=0)
    return products, lambda upstream: _gradient_of_products(by_field, upstream)


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
def sum_of_pairs(vectors: Any, weights: Any) -> Any:
    """sum_{i<j} a_ij v_i * v_j = 1/2 sum_i v_i * (A v)_i: (B, F, D) and (R, B) to (B, D)."""
    num_fields = vectors.shape[1]
    weighted = ops.matmul(_symmetric(weights, num_fields), vectors)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        upstream = ops.expand_dims(upstream, axis=1)
        first, second = pair_indices(num_fields)
        of_all = ops.matmul(vectors * upstream, ops.transpose(vectors, (0, 2, 1)))
        of_all = ops.transpose(ops.reshape(of_all, (-1, num_fields * num_fields)))
        return upstream * weighted, ops.take(of_all, first * num_fields + second, axis=0)

    return 0.5 * ops.sum(vectors * weighted, axis=1), gradient


def _attention_gradient(
    by_field: Any,
    present: Any,
    kernel: Any,
    bias: Any,
    direction: Any,
    attention: Any,
    upstream: Any,
) -> tuple[Any, ...]:
    """The gradients of `attend_to_pairs`, given its attention (R, B)."""
    vectors, dim = ops.transpose(by_field, (1, 0, 2)), by_field.shape[-1]
    of_sum, d_attention = sum_of_pairs.with_gradient(vectors, attention)[1](upstream)
    mean = ops.sum(attention * d_attention, axis=0, keepdims=True)
    d_scores = ops.reshape(attention * (d_attention - mean), (-1, 1))
    products, products_gradient = _products.with_gradient(by_field)
    flat = ops.reshape(products, (-1, dim))
    scores_gradient = relu_scores.with_gradient(flat, kernel, bias, direction)[1]
    d_flat, *d_weights = scores_gradient(d_scores)
    of_scores = products_gradient(ops.reshape(d_flat, (products.shape[0], -1, dim)))
    return ops.transpose(of_sum, (1, 0, 2)) + of_scores, ops.zeros_like(present), *d_weights


@own_gradient
@in_blocks(_BLOCK, axes=(1, 1), backward=_attention_gradient)
def attend_to_pairs(by_field: Any, present: Any, kernel: Any, bias: Any, direction: Any) -> Any:
    """The sum of all pairs' products weighed by the softmax of their scores, (B, D).

    Args:
        by_field: v, (F, B, D).
        present: 1 for the pairs that exist, else 0, (R, B); it gets no gradient.
        kernel: W, (D, T).
        bias: b, (T,).
        direction: h, (T, 1).
    """
    vectors = ops.transpose(by_field, (1, 0, 2))
    scores = pair_scores(vectors, kernel, bias, direction)
    attention = masked_softmax(scores, present, axis=0)
    return sum_of_pairs(vectors, attention), attention


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
