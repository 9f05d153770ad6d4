"""Attention over the products of all pairs of fields: scores and weighted sum, gradients by hand.

The R = F (F - 1) / 2 products of a batch are tensors of B R D numbers, and passes over them are
the cost of the whole model. So they are made once, for the scores; the weighted sum takes the
(F, F) matrix of the weights instead; and training goes through the batch in blocks. Pairs come
first and examples second, as in `pairs_by_field`.
"""

from typing import Any

from keras import ops

from models.layers.masked_softmax import masked_softmax
from models.layers.own_gradient import in_blocks, own_gradient
from models.layers.pairs import check_pairs, pair_indices, pair_numbers
from models.layers.pairs_by_field import gradient_of_products, products_of_pairs
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
    pairs = pair_indices(by_field.shape[0])
    products = products_of_pairs(by_field, pairs)
    return products, lambda upstream: gradient_of_products(by_field, pairs, upstream)


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
    matrices = ops.take(padded, pair_numbers(num_fields).ravel(), axis=0)
    return ops.transpose(ops.reshape(matrices, (num_fields, num_fields, -1)), (2, 0, 1))
