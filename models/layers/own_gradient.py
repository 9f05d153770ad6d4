"""Functions that bring their gradient, where the one a backend derives is slow."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def own_gradient(function: Callable[..., tuple[Any, Callable[[Any], Any]]]) -> Callable[..., Any]:
    """Makes a function of tensors from one that returns its value and its gradient.

    Args:
        function: maps tensors to a value and to what maps the value's gradient to the gradients
            of the tensors, one for each, in their order.
    """

    @ops.custom_gradient
    def differentiable(*tensors: Any) -> Any:
        value, gradient = function(*tensors)

        def of_upstream(*arguments: Any, upstream: Any = None) -> Any:  # Keras: either way
            return gradient(arguments[0] if upstream is None else upstream)

        return value, of_upstream

    @functools.wraps(function)
    def call(*tensors: Any) -> Any:
        if _without_gradient(tensors):
            return function(*tensors)[0]
        return differentiable(*map(ops.convert_to_tensor, tensors))

    return call


def _without_gradient(tensors: tuple[Any, ...]) -> bool:
    """Whether a model is being built, of symbols that have neither values nor gradients."""
    return any(isinstance(tensor, keras.KerasTensor) for tensor in tensors)
