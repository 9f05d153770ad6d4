"""What every registered model must do, whatever its equations; `test_all_models.py` runs them."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from models import CTRModel, Features
from models.zoo import constructor_arguments
from tests.support.layer_checks import assert_finite_gradients, randomize, toy_inputs

# Sizes for the models that take them: wide layers only make the checks slow and their sums large.
SMALL = {
    "embedding_dim": 4,
    "hidden_units": [8, 6],
    "deep_units": [5],
    "log_neurons": 6,
    "cin_units": [5, 3],
}


def small_model(name: str, features: Features, seed: int = 0, **arguments: Any) -> CTRModel:
    """A model with random weights: none is zero, so that nothing is hidden."""
    keras.utils.set_random_seed(seed)
    model = models.build(name, features, **{**small_arguments(name), **arguments})
    randomize(model, seed)
    return model


def small_arguments(name: str) -> dict[str, Any]:
    """The `SMALL` sizes the model takes; a part that the variant lacks stays away."""
    entry = models.entry(name)
    accepted = constructor_arguments(entry.cls)
    return {
        key: size
        for key, size in SMALL.items()
        if key in accepted and entry.defaults.get(key, True)
    }


def check_shapes_and_gradients(model: CTRModel) -> None:
    """Logits (B, 1) float32 and finite gradients for ordinary, single and all-padding rows."""
    for batch in (5, 1):
        inputs = toy_inputs(model.features, batch)
        logits = model(inputs)
        assert tuple(logits.shape) == (batch, 1)
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"
        assert_finite_gradients(model, (inputs,))
    padding = {"ids": np.zeros_like(inputs["ids"]), "values": np.zeros_like(inputs["values"])}
    assert_finite_gradients(model, (padding,))


def check_extreme_values(name: str, features: Features, **arguments: Any) -> None:
    """Numeric values of 0 and 1e6, with the weights a fresh model has, under the log loss.

    A high-order model's logit may reach 1e30 there: finite, but its square is not.
    """
    keras.utils.set_random_seed(0)
    model = models.build(name, features, **{**small_arguments(name), **arguments})
    for value in (0.0, 1e6):
        inputs = toy_inputs(features)
        inputs["values"][:, 0] = value
        assert_finite_gradients(model, (inputs,), loss_of=tf.math.softplus)


def check_padding_is_invisible(model: CTRModel) -> None:
    """The id of a padded position never matters; nor does the order of a field's values."""
    inputs = toy_inputs(model.features, batch=8)
    expected = np.asarray(model(inputs))
    padded = np.where(inputs["values"] == 0, 1, inputs["ids"])
    np.testing.assert_allclose(model({**inputs, "ids": padded}), expected, atol=1e-6)
    order = _permute_within_fields(model.features)
    permuted = {key: array[:, order] for key, array in inputs.items()}
    np.testing.assert_allclose(model(permuted), expected, atol=1e-5, rtol=1e-5)


def check_round_trips(model: CTRModel, tmp_path: Path) -> None:
    """Config round trip and save-and-reload equality."""
    inputs = toy_inputs(model.features)
    clone = type(model).from_config(model.get_config())
    assert clone.get_config() == model.get_config()
    path = tmp_path / "model.keras"
    model.save(path)
    reloaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(np.asarray(reloaded(inputs)), np.asarray(model(inputs)))


def check_explanation(model: CTRModel) -> None:
    """Keys as announced, shapes, finite float32 values, the same logit as the call."""
    inputs = toy_inputs(model.features)
    explanation = model.explain(inputs)
    assert list(explanation) == model.explanation_keys
    batch, fields = len(inputs["ids"]), model.features.num_fields
    np.testing.assert_allclose(explanation["logit"], model(inputs), atol=1e-6)
    for key, part in explanation.items():
        expected = {"logit": (batch, 1), "bias": (batch, 1), "first_order": (batch, fields)}
        assert tuple(part.shape) == expected.get(key, (batch, fields, fields)), key
        assert keras.backend.standardize_dtype(part.dtype) == "float32"
        assert np.isfinite(np.asarray(part)).all(), key


def check_completeness(model: CTRModel) -> None:
    """bias + first order + contributions of all orders = logit, to 1e-5 (additive models)."""
    explanation = {
        key: np.asarray(part) for key, part in model.explain(toy_inputs(model.features)).items()
    }
    parts = [
        part.reshape(len(part), -1).sum(axis=1)
        for key, part in explanation.items()
        if key in ("bias", "first_order") or key.endswith("_contributions")
    ]
    np.testing.assert_allclose(sum(parts), explanation["logit"][:, 0], atol=1e-5)


def check_mixed_precision(model: CTRModel) -> None:
    """bfloat16 compute: float32 logits near the float32 model's, gradients, explanations."""
    config = {**model.get_config(), "dtype": "mixed_bfloat16"}
    mixed = type(model).from_config(config)
    mixed.build()
    mixed.set_weights(model.get_weights())
    inputs = toy_inputs(model.features)
    assert keras.backend.standardize_dtype(mixed(inputs).dtype) == "float32"
    np.testing.assert_allclose(mixed(inputs), model(inputs), atol=0.15, rtol=0.15)
    assert_finite_gradients(mixed, (inputs,))
    check_explanation(mixed)


def check_field_permutation(model: CTRModel, permuted: CTRModel, order: list[int]) -> None:
    """Symmetric models: fields moved with their positions leave the logit as it was."""
    inputs = toy_inputs(model.features)
    starts = np.cumsum([0] + [field.positions for field in model.features.fields])
    columns = np.concatenate([np.arange(starts[f], starts[f + 1]) for f in order])
    permuted.set_weights(model.get_weights())
    moved = {key: array[:, columns] for key, array in inputs.items()}
    np.testing.assert_allclose(permuted(moved), model(inputs), atol=1e-5, rtol=1e-5)


def _permute_within_fields(features: Features) -> np.ndarray:
    rng = np.random.default_rng(1)
    order, start = [], 0
    for field in features.fields:
        order.extend(start + rng.permutation(field.positions))
        start += field.positions
    return np.array(order)
