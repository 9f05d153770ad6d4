"""XLA where it pays in a training step: the new rows of the tables, and the network if it is small.

`jit_compile=True` would compile the optimizer too, and XLA knows no update of single rows: it would
copy whole tables. So a step has three parts here. TensorFlow finds the distinct ids of the batch;
XLA computes their new rows; TensorFlow writes these in place. XLA wants fixed shapes, so the
distinct ids are padded to the number of looked-up ids, and what the padding gives is cut off.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from models.optimizers.row_sparse import RowSparse

# Operations between the inputs' ids and a lookup that leave them what they are, and which of their
# inputs the ids are. SelectV2 is in `keras.ops.take`, which lets negative numbers count from the
# end; ids never are.
_KEEPS_IDS = {"Cast": 0, "Identity": 0, "Reshape": 0, "SelectV2": 2}


def compile_dense_part(model: keras.Model, network: bool = True) -> None:
    """Has `fit` compute the tables' new rows in XLA and, if asked, forward and backward pass too.

    XLA fuses the many small elementwise operations that TensorFlow runs one by one; its matrix
    products are slower than oneDNN's on a CPU, so that a model whose time goes into them trains
    faster with `network=False`. XLA compiles once for each batch size, which takes seconds: leave
    out or pad the last partial batch where that matters.

    A table's rows are compiled where the optimizer `steps_by_new_rows` and the table is looked up
    by the inputs' `ids`; every other gradient is applied by the optimizer as without XLA.

    Call after `compile`, which must not have set `jit_compile`. Not under `tf.distribute` (each
    replica would compile for itself).

    Args:
        model: a compiled Keras model; its `train_step` is replaced.
        network: whether forward and backward pass are compiled.

    Raises:
        ValueError: the model is not compiled, or compiled with `jit_compile=True`.
    """
    if not model.compiled:
        raise ValueError("compile_dense_part needs a compiled model: call model.compile() before")
    if model.jit_compile is True:
        raise ValueError("compile_dense_part replaces jit_compile=True: compile without it")
    optimizer = model.optimizer
    loss_tracker = next(metric for metric in model.metrics if metric.name == "loss")
    compute = _computation(model, network)

    def train_step(data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        variables = model.trainable_variables
        if not optimizer.built:
            optimizer.build(variables)
        rows, where = _distinct_rows(x) if _may_compile_rows(optimizer, x) else (None, None)
        loss, prediction, gradients, new = compute(x, y, sample_weight, rows, where)
        loss_tracker.update_state(loss, sample_weight=tf.shape(keras.tree.flatten(x)[0])[0])
        for variable, values in zip(variables, new, strict=True):
            if values is not None:
                values = [value[: tf.size(rows)] for value in values]
                optimizer.write_new_rows(rows, values, variable)
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])
        return model.compute_metrics(x, y, prediction, sample_weight)

    model.train_step = train_step
    model.train_function = None


def _may_compile_rows(optimizer: keras.optimizers.Optimizer, x: Any) -> bool:
    by_rows = isinstance(optimizer, RowSparse) and optimizer.steps_by_new_rows
    return by_rows and isinstance(x, dict) and "ids" in x


def _distinct_rows(x: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """The distinct ids of the batch (U,), and the place of each looked-up id (N,) among them."""
    return tf.unique(tf.cast(tf.reshape(x["ids"], [-1]), tf.int32))


def _computation(model: keras.Model, network: bool) -> Callable[..., Any]:
    """All that a step computes without writing.

    The function returned gives the loss, the prediction, and for each trainable weight either its
    gradient or the new rows (N, ...) of table and slots, as `RowSparse.new_rows`; the other is
    None.
    """

    def new_rows(values: list[Any], padded: tf.Tensor, where: tf.Tensor) -> list[Any]:
        return [
            None if value is None else _new_rows(model.optimizer, variable, value, padded, where)
            for variable, value in zip(model.trainable_variables, values, strict=True)
        ]

    rule = new_rows if network else tf.function(new_rows, jit_compile=True, autograph=False)

    def compute(x: Any, y: Any, sample_weight: Any, padded: Any, where: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            prediction = model(x, training=True)
            loss = model.compute_loss(x, y, prediction, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in model.trainable_variables])
        new = [None] * len(gradients)
        if where is not None:
            by_ids = [_looked_up_by(gradient, x["ids"]) for gradient in gradients]
            if not all(by_ids):  # something must be left to the optimizer, which counts the steps
                pairs = list(zip(gradients, by_ids, strict=True))
                new = rule([g.values if ours else None for g, ours in pairs], padded, where)
                gradients = [None if ours else g for g, ours in pairs]
        return loss, prediction, gradients, new

    compiled = tf.function(compute, jit_compile=True, autograph=False) if network else compute

    def padded_computation(
        x: Any, y: Any, sample_weight: Any, rows: Any, where: Any
    ) -> tuple[Any, ...]:
        if rows is not None:
            rows = tf.pad(rows, [[0, tf.size(where) - tf.size(rows)]])
        return compiled(x, y, sample_weight, rows, where)

    return padded_computation


def _new_rows(
    optimizer: RowSparse, variable: Any, values: tf.Tensor, padded: tf.Tensor, where: tf.Tensor
) -> list[tf.Tensor]:
    summed = tf.math.unsorted_segment_sum(values, where, tf.size(where))
    return optimizer.new_rows(padded, summed, variable, optimizer.learning_rate)


def _looked_up_by(gradient: Any, ids: tf.Tensor) -> bool:
    """Whether a gradient's rows are those of a lookup by `ids`, in their order."""
    if not isinstance(gradient, tf.IndexedSlices):
        return False
    tensor = gradient.indices
    while tensor is not ids:
        if tensor.op.type not in _KEEPS_IDS:
            return False
        tensor = tensor.op.inputs[_KEEPS_IDS[tensor.op.type]]
    return True
