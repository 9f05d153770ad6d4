"""Softmax over the entries that exist."""

from typing import Any

from keras import ops


def masked_softmax(scores: Any, mask: Any = None, axis: int = -1) -> Any:
    """Softmax along `axis` over the entries where `mask` is true; the others get exactly 0.

    Where no entry exists at all the result is 0 everywhere, not NaN.

    Args:
        scores: float tensor.
        mask: bool tensor that broadcasts against `scores`, or None for all entries.
        axis: the axis the weights sum to 1 along.
    """
    if mask is None:
        return ops.softmax(scores, axis=axis)
    mask = ops.cast(mask, scores.dtype)
    # A finite floor: -inf would turn an empty row into NaN.
    lowest = ops.cast(-3e38 if scores.dtype != "float16" else -6e4, scores.dtype)
    peak = ops.stop_gradient(ops.max(scores * mask + lowest * (1 - mask), axis=axis, keepdims=True))
    exponent = ops.exp((scores - peak) * mask) * mask
    total = ops.sum(exponent, axis=axis, keepdims=True)
    return exponent / ops.where(ops.equal(total, 0), ops.ones_like(total), total)
