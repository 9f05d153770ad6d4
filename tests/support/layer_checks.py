"""The one harness every layer passes, and the numeric tools its tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import Features, Field


def check_layer(
    layer: keras.layers.Layer,
    inputs: tuple[np.ndarray | dict[str, np.ndarray], ...],
    output_shape: tuple[int, ...],
    tmp_path: Path,
) -> None:
    """Shapes, finite gradients, mixed precision, config round trip, save-and-reload equality.

    Args:
        layer: the layer, not built yet.
        inputs: positional arguments of its call; float arrays are differentiated through.
        output_shape: expected shape of the (first) output.
        tmp_path: an empty folder.
    """
    output = _first(layer(*inputs))
    assert tuple(output.shape) == output_shape
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert_finite_gradients(layer, inputs)
    clone = type(layer).from_config(layer.get_config())
    assert clone.get_config() == layer.get_config()
    _check_mixed_precision(layer, inputs, output_shape)
    _check_save_and_reload(layer, inputs, tmp_path)


def assert_finite_gradients(
    layer: Any,
    inputs: tuple[Any, ...],
    loss_of: Callable[[tf.Tensor], tf.Tensor] = tf.square,
    **call: Any,
) -> None:
    """Every trainable weight and no NaN or infinity in the gradient of the sum of `loss_of`."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loss_of(tf.cast(_first(layer(*inputs, **call)), tf.float32)))
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert np.isfinite(loss.numpy())
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} gets no gradient"
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all(), weight.path


def assert_gradient_matches_differences(
    function: Callable[[tf.Tensor], tf.Tensor],
    point: np.ndarray,
    tolerance: float = 2e-2,
    step: float = 1e-2,
    samples: int = 12,
) -> None:
    """Compares the gradient of a scalar function with central differences, at sampled entries.

    Tolerance is relative to the largest difference: float32 functions allow about 1e-2.
    """
    variable = tf.Variable(point.astype("float32"))
    with tf.GradientTape() as tape:
        value = function(tf.convert_to_tensor(variable))
    gradient = tf.convert_to_tensor(tape.gradient(value, variable)).numpy().ravel()
    chosen = np.random.default_rng(0).permutation(point.size)[:samples]
    differences = []
    for index in chosen:
        moved = []
        for sign in (1, -1):
            shifted = point.astype("float64").ravel().copy()
            shifted[index] += sign * step
            moved.append(float(function(tf.constant(shifted.reshape(point.shape), tf.float32))))
        differences.append((moved[0] - moved[1]) / (2 * step))
    scale = max(np.abs(differences).max(), 1e-3)
    np.testing.assert_allclose(
        gradient[chosen] / scale, np.array(differences) / scale, atol=tolerance
    )


def toy_features(fields: int = 4, multivalued: int = 3, num_features: int = 40) -> Features:
    """`fields` fields, the second one with `multivalued` positions."""
    sizes = [multivalued if index == 1 else 1 for index in range(fields)]
    return Features(num_features, tuple(Field(f"f{i}", size) for i, size in enumerate(sizes)))


def toy_inputs(features: Features, batch: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    """Random instances; multi-valued fields hold means of fewer values than positions."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, features.num_features, (batch, features.num_positions))
    values = np.ones(ids.shape, "float32")
    start = 0
    for field in features.fields:
        if field.positions > 1:
            count = rng.integers(1, field.positions + 1, (batch, 1))
            filled = np.arange(field.positions) < count
            values[:, start : start + field.positions] = filled / count
        start += field.positions
    return {"ids": ids, "values": values}


def randomize(layer: Any, seed: int = 0, scale: float = 0.3) -> None:
    """Gives every weight random values, so that zero initial values hide nothing."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if "seed" in weight.path or not weight.dtype.startswith("float"):
            continue
        noise = rng.normal(scale=scale, size=weight.shape)
        weight.assign(1.0 + np.abs(noise) if "variance" in weight.path else noise)


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) else output


def _check_mixed_precision(
    layer: keras.layers.Layer, inputs: tuple[Any, ...], output_shape: tuple[int, ...]
) -> None:
    config = {**layer.get_config(), "dtype": "mixed_bfloat16"}
    mixed = type(layer).from_config(config)
    output = _first(mixed(*inputs))
    assert tuple(output.shape) == output_shape
    assert np.isfinite(np.asarray(tf.cast(output, tf.float32))).all()
    assert all(weight.dtype == "float32" for weight in mixed.trainable_weights)


def _check_save_and_reload(
    layer: keras.layers.Layer, inputs: tuple[Any, ...], tmp_path: Path
) -> None:
    placeholders = [
        keras.tree.map_structure(lambda a: keras.Input(a.shape[1:], dtype=str(a.dtype)), item)
        for item in inputs
    ]
    model = keras.Model(placeholders, _first(layer(*placeholders)))
    path = tmp_path / "layer.keras"
    model.save(path)
    reloaded = keras.saving.load_model(path)
    expected = np.asarray(_first(layer(*inputs)))
    np.testing.assert_array_equal(np.asarray(reloaded(list(inputs))), expected)
