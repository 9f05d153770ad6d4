"""The row-sparse optimizers against Keras's dense ones, gradient by gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.optimizers import FTRL, SparseAdagrad, SparseAdam, SparseSGD
from models.optimizers.repeated_rows import RepeatedRows

ROWS, DIM, BATCH = 40, 4, 12
KERAS = keras.optimizers
DECAY = {"initial_learning_rate": 0.05, "decay_steps": 10, "decay_rate": 0.9}


def train(optimizer, *, sparse, steps=100, zero_table=False, scale=1.0):
    """Weights after `steps` random gradients: heavily repeated rows, and one dense kernel."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(ROWS, DIM))
    table = keras.Variable(0 * start if zero_table else start, dtype="float32", name="table")
    kernel = keras.Variable(rng.normal(size=(3, 2)), dtype="float32", name="kernel")
    optimizer.build([table, kernel])

    @tf.function(reduce_retracing=True)
    def step(ids, values, dense):
        slices = tf.IndexedSlices(values, ids, tf.constant([ROWS, DIM], tf.int64))
        gradient = slices if sparse else tf.math.unsorted_segment_sum(values, ids, ROWS)
        optimizer.apply_gradients([(gradient, table), (dense, kernel)])

    for _ in range(steps):
        ids = np.minimum(rng.zipf(1.3, BATCH) - 1, ROWS - 1)
        values = (scale * rng.normal(size=(BATCH, DIM))).astype("float32")
        step(tf.constant(ids), tf.constant(values), scale * rng.normal(size=(3, 2)).astype("f"))
    optimizer.finalize_variable_values([table, kernel])
    return table.numpy(), kernel.numpy()


def assert_equal(ours, theirs, tolerance=1e-6, **kwargs):
    for got, want in zip(
        train(ours, sparse=True, **kwargs), train(theirs, sparse=False, **kwargs), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"initial_accumulator_value": 0.0},
        {"clipnorm": 1.0},
        {"global_clipnorm": 1.0},
        {"clipvalue": 0.5},
        {"gradient_accumulation_steps": 3, "global_clipnorm": 1.0},
        {"learning_rate": KERAS.schedules.ExponentialDecay(**DECAY)},
    ],
    ids=lambda options: "+".join(options) or "plain",
)
def test_adagrad_equals_dense(options):
    options = {"learning_rate": 0.05, **options}
    assert_equal(SparseAdagrad(**options), KERAS.Adagrad(**options))


@pytest.mark.parametrize("ours", [SparseAdagrad, SparseSGD])
def test_averages_by_row_equal_dense_ones(ours):
    """Rows that are not in the batch do not move; their averages do."""
    theirs = {SparseAdagrad: KERAS.Adagrad, SparseSGD: KERAS.SGD}[ours]
    options = {"learning_rate": 0.05, "use_ema": True, "ema_momentum": 0.97, "clipnorm": 1.0}
    # Keras rounds an average at each of the steps in which its row stands still.
    assert_equal(ours(**options), theirs(**options), tolerance=1e-5)


def test_averages_by_row_are_of_the_rows_as_they_stood_at_every_step():
    rng = np.random.default_rng(2)
    table = keras.Variable(rng.normal(size=(ROWS, DIM)), dtype="float32")
    kernel = keras.Variable(rng.normal(size=(3, 2)), dtype="float32")
    optimizer = SparseAdam(0.1, use_ema=True, ema_momentum=0.9, weight_decay=0.1)
    optimizer.build([table, kernel])
    shape, expected = tf.constant([ROWS, DIM]), None
    for step in range(1, 31):
        ids = tf.constant(rng.integers(0, ROWS - 1, 3))  # the last row never moves
        slices = tf.IndexedSlices(tf.constant(rng.normal(size=(3, DIM)), "float32"), ids, shape)
        optimizer.apply([slices, rng.normal(size=(3, 2)).astype("f")], [table, kernel])
        now = [table.numpy(), kernel.numpy()]
        expected = expected or now
        expected = [0.9 * a + 0.1 * w for a, w in zip(expected, now, strict=True)]
        if step in (7, 8, 30):
            optimizer.catch_up_averages([table, kernel])
            found = optimizer._model_variables_moving_average
            for got, want in zip(found, expected, strict=True):
                np.testing.assert_allclose(got.numpy(), want, atol=1e-5)
    optimizer.finalize_variable_values([table, kernel])
    np.testing.assert_allclose(table.numpy(), expected[0], atol=1e-5)


@pytest.mark.parametrize("option", ["gradient_accumulation_steps", "ema_overwrite_frequency"])
def test_averages_by_row_refuse_what_reads_them_too_early(option):
    with pytest.raises(ValueError, match=f"use_ema with {option} needs table_update="):
        SparseAdagrad(use_ema=True, **{option: 2})
    SparseAdagrad(use_ema=True, table_update="whole", **{option: 2})


def test_adagrad_equals_dense_on_tiny_gradients():
    options = {"learning_rate": 0.05, "initial_accumulator_value": 0.0}
    assert_equal(SparseAdagrad(**options), KERAS.Adagrad(**options), scale=1e-4)


@pytest.mark.parametrize("ours", [SparseAdagrad, SparseAdam, SparseSGD, FTRL])
def test_whole_update_is_the_dense_rule(ours):
    name = {"FTRL": "Ftrl"}.get(ours.__name__, ours.__name__.removeprefix("Sparse"))
    options = {"learning_rate": 0.001, "weight_decay": 0.01}
    assert_equal(ours(table_update="whole", **options), getattr(KERAS, name)(**options))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_exact_adam_equals_dense(scale):
    assert_equal(SparseAdam(0.001, exact=True), KERAS.Adam(0.001), scale=scale)


def test_exact_adam_equals_dense_under_a_schedule():
    schedule = KERAS.schedules.ExponentialDecay(0.001, 10, 0.9)
    assert_equal(SparseAdam(schedule, exact=True), KERAS.Adam(schedule))


def test_exact_adam_makes_up_for_steps_beyond_its_history(monkeypatch):
    monkeypatch.setattr("models.optimizers.skipped_steps._HISTORY", 256)
    assert_equal(SparseAdam(0.001, exact=True), KERAS.Adam(0.001), steps=600)


def test_lazy_adam_leaves_absent_rows_alone():
    table, optimizer = keras.Variable(np.ones((ROWS, DIM), "float32")), SparseAdam(0.1)
    optimizer.build([table])
    shape = tf.constant([ROWS, DIM])
    for row in (3, 5, 5):
        optimizer.apply([tf.IndexedSlices(tf.ones((1, DIM)), tf.constant([row]), shape)], [table])
    after = table.numpy()
    np.testing.assert_allclose(after[3], 0.9, atol=1e-5)
    assert (np.delete(after, [3, 5], axis=0) == 1).all()


def test_catch_up_moves_a_row_before_it_is_read():
    """Caught up row by row before each use, exact Adam is dense Adam in a real training loop."""
    rng = np.random.default_rng(1)
    start, target = rng.normal(size=(2, ROWS, DIM)).astype("float32")
    batches = rng.integers(0, ROWS, (60, 5))
    results = []
    for optimizer, sparse in ((SparseAdam(0.01, exact=True), True), (KERAS.Adam(0.01), False)):
        table = keras.Variable(start)
        optimizer.build([table])
        for ids in batches:
            if sparse:
                optimizer.catch_up(table, ids)
            with tf.GradientTape() as tape:
                rows = keras.ops.take(table.value, ids, axis=0)
                loss = tf.reduce_sum(tf.square(rows - target[ids]))
            gradient = tape.gradient(loss, table.value)
            assert isinstance(gradient, tf.IndexedSlices)
            optimizer.apply([gradient if sparse else tf.convert_to_tensor(gradient)], [table])
        optimizer.finalize_variable_values([table])
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6, atol=2e-6)


def test_catching_up_tables_leaves_dense_weights_alone():
    table, kernel = (keras.Variable(np.ones((4, 2), "float32"), name=n) for n in "tk")
    optimizer = SparseAdam(0.1, exact=True)
    optimizer.build([table, kernel])
    for row in (0, 1, 2):
        slices = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([row]), tf.constant([4, 2]))
        optimizer.apply([slices, tf.ones((4, 2))], [table, kernel])
    before = table.numpy(), kernel.numpy()
    optimizer.catch_up_tables([table, kernel])
    np.testing.assert_array_equal(kernel.numpy(), before[1])
    assert (table.numpy()[0] < before[0][0]).all()


def test_sgd_equals_dense():
    assert_equal(SparseSGD(0.05), KERAS.SGD(0.05))


def test_sgd_momentum_of_absent_rows_rests():
    table, optimizer = keras.Variable(np.zeros((3, 1), "float32")), SparseSGD(1.0, momentum=0.5)
    optimizer.build([table])
    for row in (0, 1, 0):
        slices = tf.IndexedSlices(tf.ones((1, 1)), tf.constant([row]), tf.constant([3, 1]))
        optimizer.apply([slices], [table])
    np.testing.assert_allclose(table.numpy().ravel(), [-1 - 1.5, -1, 0])


@pytest.mark.parametrize("power", [-0.5, -0.3])
def test_ftrl_equals_dense_on_tables_that_start_at_zero(power):
    options = {
        "learning_rate": 0.05,
        "learning_rate_power": power,
        "l1_regularization_strength": 0.1,
        "l2_regularization_strength": 0.1,
        "beta": 0.3,
    }
    assert_equal(FTRL(**options), KERAS.Ftrl(**options), zero_table=True)


def apply_once(optimizer, ids=(1, 1, 2), start=2.0):
    """One step of unit gradients on a table of five equal rows."""
    table = keras.Variable(np.full((5, 1), start, "float32"))
    optimizer.build([table])
    shape = tf.constant([5, 1])
    slices = tf.IndexedSlices(tf.ones((len(ids), 1)), tf.constant(ids), shape)
    optimizer.apply([slices], [table])
    return table.numpy().ravel()


def test_table_l2_counts_a_row_of_the_batch_once():
    got = apply_once(SparseSGD(0.1, table_l2=0.5))
    np.testing.assert_allclose(got, [2, 2 - 0.1 * (2 + 2), 2 - 0.1 * (1 + 2), 2, 2], rtol=1e-6)


@pytest.mark.parametrize("scope, untouched", [("rows", 2.0), ("table", 2 - 0.1 * 2)])
def test_table_l2_over_a_whole_update(scope, untouched):
    got = apply_once(SparseSGD(0.1, table_l2=0.5, table_l2_on=scope, table_update="whole"))
    np.testing.assert_allclose(got, [untouched, 1.6, 1.7, untouched, untouched], rtol=1e-6)


def test_weight_decay_shrinks_only_rows_of_the_batch():
    got = apply_once(SparseSGD(0.1, weight_decay=0.5))
    np.testing.assert_allclose(got, [2, 1.9 - 0.2, 1.9 - 0.1, 2, 2], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.5, KERAS.schedules.ExponentialDecay(0.5, 1, 0.5)])
def test_tables_take_their_own_learning_rate(rate):
    got = apply_once(SparseSGD(0.1, table_learning_rate=rate))
    np.testing.assert_allclose(got, [2, 1, 1.5, 2, 2], rtol=1e-6)


def test_repeated_rows_are_summed():
    slices = tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([7, 3, 7]))
    _, merged = RepeatedRows().merge(slices)
    assert dict(zip(merged.indices.numpy(), merged.values.numpy().ravel(), strict=True)) == {
        7: 5.0,
        3: 2.0,
    }


def test_row_updates_compile_without_reading_a_whole_table():
    """The step of a table holds no read of the table or its slots, only of rows."""
    table = keras.Variable(np.zeros((ROWS, DIM), "float32"))
    optimizer = SparseAdagrad(0.1, global_clipnorm=1.0, table_l2=0.1, weight_decay=0.1)
    optimizer.build([table])

    @tf.function
    def step(ids, values):
        shape = tf.constant([ROWS, DIM])
        optimizer.apply([tf.IndexedSlices(values, ids, shape)], [table])

    graph = step.get_concrete_function(
        tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, DIM], tf.float32)
    ).graph
    reads = [op.outputs[0] for op in graph.get_operations() if op.type == "ReadVariableOp"]
    assert reads
    assert all(read.shape.rank == 0 for read in reads), [read.shape for read in reads]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"table_l2": -1.0}, "table_l2 must be 0 or more"),
        ({"table_l2_on": "batch"}, "table_l2_on must be one of"),
        ({"table_update": "all"}, "table_update must be one of"),
        ({"loss_scale_factor": 2.0}, "LossScaleOptimizer"),
        ({"amsgrad": True}, "amsgrad"),
        ({"exact": True, "beta_1": 0.99, "beta_2": 0.9}, "beta_1 < sqrt"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseAdam(0.1, **arguments)
