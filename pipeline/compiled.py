"""A model's forward pass or explanation on arrays, compiled by whichever backend Keras runs on."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Arrays = dict[str, np.ndarray]


def compiled(model: keras.Model, function: Callable[[dict[str, Any]], Any]) -> Callable:
    """`function` of `model`'s weights as they are at each call, from arrays to arrays.

    Not `model.predict`, whose fixed cost is many times that of a small batch.

    Args:
        model: whose weights `function` reads.
        function: maps inputs by name to a tensor, or to tensors by name.
    """
    run = _on_jax(model, function) if keras.config.backend() == "jax" else _on_tensorflow(function)

    def on_arrays(inputs: Arrays) -> Any:
        return keras.tree.map_structure(np.asarray, run(inputs))

    return on_arrays


def _on_tensorflow(function: Callable[[dict[str, Any]], Any]) -> Callable[[Arrays], Any]:
    graph = tf.function(function, reduce_retracing=True)

    def run(inputs: Arrays) -> Any:
        return graph({name: tf.convert_to_tensor(array) for name, array in inputs.items()})

    return run


def _on_jax(model: keras.Model, function: Callable[[dict[str, Any]], Any]) -> Callable:
    import jax

    variables = model.variables

    @jax.jit
    def stateless(values: list[Any], inputs: dict[str, Any]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(inputs)

    def run(inputs: Arrays) -> Any:
        return stateless([variable.value for variable in variables], inputs)

    return run
