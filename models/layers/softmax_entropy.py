"""Entropy of a softmax, from its scores."""

from typing import Any

from keras import ops


def softmax_entropy(scores: Any) -> Any:
    """-sum_j a_j log a_j of a = softmax(scores) along the last axis, in float32.

    Taken from the scores, so that an attention weight that has underflowed to 0 counts 0 (reading
    21) and its gradient stays finite.

    Args:
        scores: (..., N), already divided by any temperature.

    Returns:
        The entropy in nats, (...).
    """
    log_weights = ops.log_softmax(ops.cast(scores, "float32"), axis=-1)
    return -ops.sum(ops.exp(log_weights) * log_weights, axis=-1)
