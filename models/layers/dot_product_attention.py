"""Dot-product attention with its gradient by hand."""

from typing import Any

from keras import ops

from models.layers.dropout import Dropout
from models.layers.own_gradient import own_gradient


@own_gradient
def dot_product_attention(queries: Any, vectors: Any, *factors: Any) -> Any:
    """o_i = sum_j a_ij f_ij x_j with a_i = softmax_j(q_i . x_j): keys and values are the vectors.

    The exponentials e_ij are divided by their sum only once they have met the vectors, and the
    softmax's gradient needs no sum over pairs, since that is o_i's product with its own gradient.
    With Z_i the sum of exp(q_i . x_j), and without f,

        d(q_i . x_j) = a_ij (do_i . x_j - do_i . o_i + d(log Z_i))

    The attention's entropy is log Z_i - q_i . o_i, so it needs nothing of shape (M, N) of its own.

    Args:
        queries: (B, M, D).
        vectors: (B, N, D).
        factors: none, or f alone, (B, M, N), as dropout has them.

    Returns:
        o, (B, M, D), and log Z, (B, M, 1).
    """
    columns = ops.swapaxes(vectors, 1, 2)
    scores = ops.matmul(queries, columns)
    largest = ops.max(scores, axis=-1, keepdims=True)
    exponents = ops.exp(scores - largest)
    total = ops.sum(exponents, axis=-1, keepdims=True)
    weighted = exponents * factors[0] if factors else exponents
    output = ops.matmul(weighted, vectors) / total

    def gradient(upstream: tuple[Any, Any]) -> tuple[Any, ...]:
        of_output, of_log_total = upstream[0] / total, upstream[1] / total
        towards = ops.matmul(of_output, columns)
        kept = towards * factors[0] if factors else towards
        own = ops.sum(of_output * output, axis=-1, keepdims=True) - of_log_total
        of_scores = exponents * (kept - own)
        # Both sums over i by columns: to transpose q and do costs a CPU half of transposing e.
        of_columns = ops.matmul(ops.swapaxes(queries, 1, 2), of_scores)
        of_columns = of_columns + ops.matmul(ops.swapaxes(of_output, 1, 2), weighted)
        return (
            ops.matmul(of_scores, vectors),
            ops.swapaxes(of_columns, 1, 2),
            *(exponents * towards for _ in factors),
        )

    return (output, largest + ops.log(total)), gradient


def attention_with_dropout(drop: Dropout, queries: Any, vectors: Any, training: bool | None) -> Any:
    """The output of `dot_product_attention` whose weights `drop` drops in training."""
    if not (training and drop.rate):
        return dot_product_attention(queries, vectors)[0]
    shape = (ops.shape(queries)[0], queries.shape[1], vectors.shape[1])
    factors = drop(ops.ones(shape, queries.dtype), training=True)
    return dot_product_attention(queries, vectors, factors)[0]
