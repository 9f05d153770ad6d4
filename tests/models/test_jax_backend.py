"""Every model on Keras's JAX backend: the same logits as on TensorFlow, from the same weights."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import models
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs

if importlib.util.find_spec("jax") is None:
    pytest.skip("jax is not installed (pip install jax)", allow_module_level=True)


@pytest.fixture(scope="module")
def logits(tmp_path_factory):
    """Logits of every model: {name: (on TensorFlow, on JAX)}."""
    folder = tmp_path_factory.mktemp("jax")
    features, inputs = toy_features(), toy_inputs(toy_features())
    arrays = {"features": np.array(json.dumps(features.to_config())), **inputs}
    arguments, expected = {}, {}
    for name in models.names():
        model = model_checks.small_model(name, features)
        arguments[name] = model_checks.small_arguments(name)
        expected[name] = np.asarray(model(inputs, training=False))
        arrays |= {f"{name}/{i}": weight for i, weight in enumerate(model.get_weights())}
    arrays["arguments"] = np.array(json.dumps(arguments))
    np.savez(folder / "in.npz", **arrays)
    command = [
        sys.executable,
        "-m",
        "tests.support.jax_forward",
        folder / "in.npz",
        folder / "out.npz",
    ]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        # Each operation is compiled once and run once: optimizing it would take most of the time.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    done = subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    outputs = np.load(folder / "out.npz")
    return {name: (expected[name], outputs[name]) for name in expected}


@pytest.mark.parametrize("name", models.names())
def test_same_logits_as_on_tensorflow(logits, name):
    on_tensorflow, on_jax = logits[name]
    assert on_jax.dtype == np.float32, str(on_jax)
    np.testing.assert_allclose(on_jax, on_tensorflow, atol=1e-5, rtol=1e-4)
