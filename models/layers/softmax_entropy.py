"""A softmax whose entropy is a loss, and the two at once with their gradient by hand."""

from typing import Any

import keras
from keras import ops

from models.layers.own_gradient import own_gradient


@own_gradient
def softmax_and_entropy(scores: Any) -> Any:
    """a = softmax(scores) along the last axis and its entropy -sum_j a_j log a_j.

    With Z = sum_j exp(s_j), log a_j = s_j - log Z, so one exponential of the scores serves both,
    and a weight that has underflowed to 0 counts 0 (reading 21) with a finite gradient:

        ds_j = a_j (t_j - sum_k a_k t_k),    t_j = da_j - log a_j dH

    Args:
        scores: (..., N) in float32, already divided by any temperature.

    Returns:
        The weights, (..., N), and the entropy in nats, (...).
    """
    shifted = scores - ops.max(scores, axis=-1, keepdims=True)
    exponents = ops.exp(shifted)
    total = ops.sum(exponents, axis=-1, keepdims=True)
    weights, log_weights = exponents / total, shifted - ops.log(total)

    def gradient(upstream: tuple[Any, Any]) -> Any:
        towards = upstream[0] - log_weights * ops.expand_dims(upstream[1], axis=-1)
        return weights * (towards - ops.sum(weights * towards, axis=-1, keepdims=True))

    return (weights, -ops.sum(weights * log_weights, axis=-1)), gradient


def softmax_with_entropy_loss(
    layer: keras.layers.Layer, scores: Any, coefficient: float, training: bool | None
) -> Any:
    """softmax(scores) along the last axis; training adds its mean entropy to the layer's losses.

    Args:
        layer: takes the loss.
        scores: (..., N).
        coefficient: of the entropy in the loss.
        training: whether there is a loss.
    """
    if not (training and coefficient):
        return ops.softmax(scores, axis=-1)
    weights, entropy = softmax_and_entropy(ops.cast(scores, "float32"))
    layer.add_loss(coefficient * ops.mean(entropy))
    return ops.cast(weights, scores.dtype)
