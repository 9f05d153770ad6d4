"""Functions that bring their gradient, where the one a backend derives is slow."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

WithGradient = Callable[..., tuple[Any, Callable[[Any], Any]]]


def own_gradient(function: WithGradient) -> Callable[..., Any]:
    """Makes a function of tensors from one that returns its value and its gradient.

    Args:
        function: maps tensors to a value, or a tuple of them, and to what maps its gradient, or
            the tuple of theirs, to the gradients of the tensors, one for each, in their order.
            It stays at hand as `with_gradient` of the result, for gradients composed of several.
    """

    @ops.custom_gradient
    def differentiable(*tensors: Any) -> Any:
        value, gradient = function(*tensors)

        def of_upstream(*arguments: Any, upstream: Any = None) -> Any:  # Keras: either way
            if len(arguments) > 1:  # TensorFlow, of several values
                return gradient(arguments)
            return gradient(arguments[0] if upstream is None else upstream)

        return value, of_upstream

    @functools.wraps(function)
    def call(*tensors: Any) -> Any:
        if _without_gradient(tensors):
            return function(*tensors)[0]
        return differentiable(*map(ops.convert_to_tensor, tensors))

    call.with_gradient = function
    return call


def in_blocks(
    size: int, axes: tuple[int, ...], backward: Callable[..., tuple[Any, ...]]
) -> Callable[[Callable[..., tuple[Any, ...]]], WithGradient]:
    """Works through the batch in blocks, so that what a block needs on its way stays in cache.

    What the gradient needs and is large it computes once more: that costs less than to write it
    to memory and to read it again.

    Args:
        size: examples of a block.
        axes: the batch's axis in the decorated function's first tensors; the other tensors,
            weights, are the same for every block.
        backward: maps the tensors, what the decorated function returns beside its value (small
            tensors, to be kept) and the value's gradient to the tensors' gradients. The batch is
            the value's first axis.
    """

    def decorate(function: Callable[..., tuple[Any, ...]]) -> WithGradient:
        @functools.wraps(function)
        def whole(*tensors: Any) -> tuple[Any, Callable[[Any], Any]]:
            batch = tensors[0].shape[axes[0]]
            if _without_gradient(tensors) or (batch is not None and batch <= size):
                value, *small = function(*tensors)
                return value, lambda upstream: backward(*tensors, *small, upstream)
            batch = ops.shape(tensors[0])[axes[0]]
            weights = tensors[len(axes) :]
            batched = zip(tensors, axes, strict=False)
            blocks = tuple(_blocks(tensor, size, axis) for tensor, axis in batched)
            value, *small = ops.map(lambda block: function(*block, *weights), blocks)

            def gradient(upstream: Any) -> tuple[Any, ...]:
                parts = ops.map(
                    lambda block: backward(*block[: len(axes)], *weights, *block[len(axes) :]),
                    (*blocks, *small, _blocks(upstream, size, 0)),
                )
                batched = zip(parts, axes, strict=False)
                return (
                    *(_whole(part, batch, axis) for part, axis in batched),
                    *(ops.sum(part, axis=0) for part in parts[len(axes) :]),
                )

            return _whole(value, batch, 0), gradient

        return whole

    return decorate


def _blocks(tensor: Any, size: int, axis: int) -> Any:
    """Blocks along an axis, (ceil(B / size), ..., size, ...), the last filled up with zeros."""
    shape, missing = list(tensor.shape), -ops.shape(tensor)[axis] % size
    tensor = ops.pad(tensor, [[0, missing if at == axis else 0] for at in range(len(shape))])
    tensor = ops.reshape(tensor, (*shape[:axis], -1, size, *shape[axis + 1 :]))
    return ops.moveaxis(tensor, axis, 0)


def _whole(blocks: Any, batch: Any, axis: int) -> Any:
    """The blocks in one again, without what filled up the last."""
    tensor = ops.moveaxis(blocks, 0, axis)
    shape = tensor.shape
    tensor = ops.reshape(tensor, (*shape[:axis], -1, *shape[axis + 2 :]))
    return tensor[(slice(None),) * axis + (slice(batch),)]


def _without_gradient(tensors: tuple[Any, ...]) -> bool:
    """Whether a model is being built, of symbols that have neither values nor gradients."""
    return any(isinstance(tensor, keras.KerasTensor) for tensor in tensors)
