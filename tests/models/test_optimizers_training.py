"""The row-sparse optimizers in `compile` and `fit`: modes of execution, saving, more devices."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models.optimizers import FTRL, SparseAdagrad, SparseAdam, SparseSGD

FEATURES = models.Features.from_fields(
    50, [{"name": f"f{i}", "start": i, "stop": i + 1} for i in range(4)]
)
OPTIMIZERS = {
    "adagrad": lambda **kwargs: SparseAdagrad(0.1, **kwargs),
    "adam": lambda **kwargs: SparseAdam(0.01, **kwargs),
    "adam-exact": lambda **kwargs: SparseAdam(0.01, exact=True, **kwargs),
    "sgd": lambda **kwargs: SparseSGD(0.1, momentum=0.9, **kwargs),
    "ftrl": lambda **kwargs: FTRL(0.1, **kwargs),
}


def data(rows=256):
    rng = np.random.default_rng(3)
    ids = np.minimum(rng.zipf(1.4, (rows, 4)) - 1, 49).astype("int32")
    values = np.ones((rows, 4), "float32")
    labels = (ids.sum(axis=1) % 2).astype("float32")
    return {"ids": ids, "values": values}, labels


def fm(optimizer, **compile_arguments):
    keras.utils.set_random_seed(1)
    model = models.build("fm", FEATURES, embedding_dim=4)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compile_arguments)
    return model


def fit(model, epochs=2):
    x, y = data()
    return model.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)


def assert_same(got, want, tolerance=1e-6):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def expected():
    """Weights of the FM trained by a row-sparse Adagrad in one graph per step."""
    model = fm(SparseAdagrad(0.1))
    history = fit(model).history["loss"]
    assert history[-1] < history[0]
    return model.get_weights()


@pytest.mark.parametrize(
    "optimizer, execution",
    [
        ({}, {"run_eagerly": True}),
        ({}, {"steps_per_execution": 3}),
        ({"table_update": "whole"}, {"jit_compile": False}),
        ({"table_update": "whole"}, {"jit_compile": True}),
        ({}, {"jit_compile": True}),
        ({}, {"jit_compile": True, "steps_per_execution": 3}),
    ],
)
def test_every_mode_of_execution_trains_alike(expected, optimizer, execution):
    model = fm(SparseAdagrad(0.1, **optimizer), **execution)
    fit(model)
    assert_same(model.get_weights(), expected, 1e-5)


@pytest.mark.parametrize(
    "name, options",
    [
        ("adam-exact", {}),
        ("ftrl", {"global_clipnorm": 0.05}),
        ("adagrad", {"gradient_accumulation_steps": 3}),
        ("adam", {"use_ema": True, "ema_momentum": 0.9}),
        *(
            pytest.param(name, options, marks=pytest.mark.slow)
            for name in OPTIMIZERS
            for options in ({}, {"clipvalue": 0.01}, {"gradient_accumulation_steps": 2})
        ),
    ],
    ids=str,
)
def test_xla_and_calls_of_two_steps_train_by_row_alike(name, options):
    options = {"table_l2": 1e-3, "table_learning_rate": 0.02, "weight_decay": 0.01, **options}
    plain = fm(OPTIMIZERS[name](**options))
    compiled = fm(OPTIMIZERS[name](**options), jit_compile=True, steps_per_execution=2)
    fit(plain)
    fit(compiled)
    assert_same(compiled.get_weights(), plain.get_weights(), 1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_alike_from_a_saved_model(name, tmp_path):
    through = fm(OPTIMIZERS[name](table_learning_rate=0.02, table_l2=1e-4))
    fit(through, epochs=1)
    through.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == through.optimizer.get_config()
    fit(through, epochs=1)
    fit(loaded, epochs=1)
    assert_same(loaded.get_weights(), through.get_weights(), 0)


def test_training_goes_on_alike_from_a_checkpoint(tmp_path):
    through = fm(SparseAdagrad(0.1, gradient_accumulation_steps=3))
    fit(through, epochs=1)
    path = tf.train.Checkpoint(model=through, optimizer=through.optimizer).save(tmp_path / "c")
    fit(through, epochs=1)
    resumed = fm(SparseAdagrad(0.1, gradient_accumulation_steps=3))
    resumed.optimizer.build(resumed.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer)
    checkpoint.restore(path).assert_consumed()
    fit(resumed, epochs=1)
    assert_same(resumed.get_weights(), through.get_weights(), 0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_configuration_round_trip(name):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    optimizer = OPTIMIZERS[name](table_learning_rate=schedule, table_l2=0.5, clipnorm=1.0)
    config = keras.saving.serialize_keras_object(optimizer)
    assert config["registered_name"].startswith("ctr>")
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert float(again.table_rate(0.5)) == pytest.approx(0.1)


def test_mixed_precision_scales_the_loss_by_itself():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = fm(SparseAdagrad(0.1))
        losses = fit(model).history["loss"]
    finally:
        keras.config.set_dtype_policy(before)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert losses[-1] < losses[0]


def test_a_step_without_finite_gradients_is_left_out_under_loss_scaling():
    table = keras.Variable(np.ones((5, 1), "float32"))
    optimizer = keras.optimizers.LossScaleOptimizer(SparseAdagrad(0.1))
    optimizer.build([table])
    slices = tf.IndexedSlices(tf.constant([[np.inf]]), tf.constant([2]), tf.constant([5, 1]))
    optimizer.apply([slices], [table])
    assert (table.numpy() == 1).all()


_TWO_DEVICES = """
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.models.test_optimizers_training import FEATURES, OPTIMIZERS, data, fm

def trained(name):
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    model = fm(OPTIMIZERS[name](table_l2=1e-3))
    model.fit(dataset, epochs=1, verbose=0)
    return model.get_weights()

for name in ("adagrad", "adam"):
    one = trained(name)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = trained(name)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
print("equal")
"""


def test_two_devices_train_as_one(request):
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.strip().endswith("equal"), done.stderr[-2000:]
