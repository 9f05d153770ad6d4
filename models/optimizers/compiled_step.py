"""XLA where it pays in a training step: the new rows of the tables, and the network if it is small.

`jit_compile=True` would compile the optimizer too, and XLA knows no update of single rows: it would
copy whole tables. So a step has three parts here. TensorFlow finds the distinct ids of the batch;
XLA computes their new rows; TensorFlow writes these in place. XLA wants fixed shapes, so the
distinct ids are padded to the number of looked-up ids, and what the padding gives is cut off.
"""

import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from models.optimizers.row_sparse import RowSparse

# Operations between the inputs' ids and a lookup that leave them what they are, and which of their
# inputs the ids are. SelectV2 is in `keras.ops.take`, which lets negative numbers count from the
# end; ids never are.
_KEEPS_IDS = {"Cast": 0, "Identity": 0, "Reshape": 0, "SelectV2": 2}


def compile_dense_part(model: keras.Model, network: bool = True, parts: int | None = None) -> None:
    """Has `fit` compute the tables' new rows in XLA and, if asked, forward and backward pass too.

    XLA fuses the many small elementwise operations that TensorFlow runs one by one; its matrix
    products are slower than oneDNN's on a CPU, so that a model whose time goes into them trains
    faster with `network=False`. XLA compiles once for each batch size, which takes seconds: leave
    out or pad the last partial batch where that matters.

    A compiled network runs the examples of a batch in `parts` beside each other, as XLA keeps one
    core busy for much of a step. The loss and the gradients are the sums over the parts, each
    weighted by its examples: those of the whole batch, up to the order of the sums. That takes a
    loss that is a mean over examples and no batch normalization; dropout draws for each part.

    A table's rows are compiled where the optimizer `steps_by_new_rows` and the table is looked up
    by the inputs' `ids`; every other gradient is applied by the optimizer as without XLA.

    Call after `compile`, which must not have set `jit_compile`. Not under `tf.distribute` (each
    replica would compile for itself).

    Args:
        model: a compiled Keras model; its `train_step` is replaced.
        network: whether forward and backward pass are compiled.
        parts: of a batch; None for one per core, at most 4, where the model allows it, else 1.

    Raises:
        ValueError: the model is not compiled, or compiled with `jit_compile=True`; several parts
            asked for where loss or model do not allow them.
    """
    if not model.compiled:
        raise ValueError("compile_dense_part needs a compiled model: call model.compile() before")
    if model.jit_compile is True:
        raise ValueError("compile_dense_part replaces jit_compile=True: compile without it")
    if parts is None:
        parts = min(os.cpu_count() or 1, 4) if network and _is_mean_over_examples(model) else 1
    elif parts > 1 and not (network and _is_mean_over_examples(model)):
        raise ValueError(
            "parts need a compiled network, a loss that is a mean over the batch, and no "
            "BatchNormalization"
        )
    optimizer = model.optimizer
    loss_tracker = next(metric for metric in model.metrics if metric.name == "loss")
    compute = _computation(model, network, parts)

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


def _is_mean_over_examples(model: keras.Model) -> bool:
    """Whether loss and gradient of a batch are the means of those of its examples."""
    loss = model._compile_loss._user_loss if model._compile_loss is not None else None
    mean = isinstance(loss, keras.losses.Loss) and loss.reduction == "sum_over_batch_size"
    layers = model._flatten_layers()
    return mean and not any(isinstance(x, keras.layers.BatchNormalization) for x in layers)


def _computation(model: keras.Model, network: bool, parts: int) -> Callable[..., Any]:
    """All that a step computes without writing.

    The function returned gives the loss, the prediction, and for each trainable weight either its
    gradient or the new rows (N, ...) of table and slots, as `RowSparse.new_rows`; the other is
    None.
    """

    def passes(x: Any, y: Any, sample_weight: Any, share: Any, by_rows: bool) -> tuple[Any, ...]:
        """Forward and backward pass; row gradients (N, ...) of tables apart from the others."""
        with tf.GradientTape() as tape:
            prediction = model(x, training=True)
            loss = share * model.compute_loss(x, y, prediction, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in model.trainable_variables])
        ours = [by_rows and _looked_up_by(gradient, x["ids"]) for gradient in gradients]
        if all(ours):  # something must be left to the optimizer, which counts the steps
            ours = [False] * len(ours)
        pairs = list(zip(gradients, ours, strict=True))
        rows = [gradient.values if own else None for gradient, own in pairs]
        return loss, prediction, rows, [None if own else gradient for gradient, own in pairs]

    def new_rows(values: list[Any], padded: tf.Tensor, where: tf.Tensor) -> list[Any]:
        return [
            None if value is None else _new_rows(model.optimizer, variable, value, padded, where)
            for variable, value in zip(model.trainable_variables, values, strict=True)
        ]

    def xla(function: Callable[..., Any]) -> Callable[..., Any]:
        return tf.function(function, jit_compile=True, autograph=False)

    rule = new_rows if network and parts == 1 else xla(new_rows)
    of_part = xla(passes) if parts > 1 else None

    def compute(x: Any, y: Any, sample_weight: Any, padded: Any, where: Any) -> tuple[Any, ...]:
        by_rows = where is not None
        if of_part is None:
            loss, prediction, rows, gradients = passes(x, y, sample_weight, 1.0, by_rows)
        else:
            shares = _shares(parts, (x, y, sample_weight))
            results = [of_part(*part, share, by_rows) for share, part in shares]
            loss, prediction, rows, gradients = _together(results)
            size = tf.shape(tf.nest.flatten(x)[0])[0]
            prediction = tf.nest.map_structure(lambda of_all: of_all[:size], prediction)
            if by_rows:
                rows = [None if of_all is None else of_all[: tf.size(where)] for of_all in rows]
        new = rule(rows, padded, where) if by_rows else rows
        return loss, prediction, gradients, new

    compiled = xla(compute) if network and parts == 1 else compute

    def padded_computation(
        x: Any, y: Any, sample_weight: Any, rows: Any, where: Any
    ) -> tuple[Any, ...]:
        if rows is not None:
            rows = tf.pad(rows, [[0, tf.size(where) - tf.size(rows)]])
        return compiled(x, y, sample_weight, rows, where)

    return padded_computation


def _shares(parts: int, data: Any) -> list[tuple[tf.Tensor, Any]]:
    """The batch cut in parts, and each part's share of it.

    A last part that is left without an example gets one all the same, with a share of 0: the mean
    loss of none would be NaN.
    """
    size = tf.shape(tf.nest.flatten(data)[0])[0]
    each = (size + parts - 1) // parts
    shares = []
    for number in range(parts):
        start, stop = (tf.minimum(each * cut, size) for cut in (number, number + 1))
        share = tf.cast(stop - start, tf.float32) / tf.cast(size, tf.float32)
        rows = slice(tf.minimum(start, size - 1), tf.maximum(stop, 1))
        part = tf.nest.map_structure(lambda t, rows=rows: None if t is None else t[rows], data)
        shares.append((share, part))
    return shares


def _together(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Sum of the parts' losses and gradients; their predictions and row gradients in order."""
    losses, predictions, rows, gradients = zip(*parts, strict=True)
    return (
        tf.add_n(losses),
        tf.nest.map_structure(lambda *of: tf.concat(of, axis=0), *predictions),
        [None if of[0] is None else tf.concat(of, axis=0) for of in zip(*rows, strict=True)],
        [_sum(of) for of in zip(*gradients, strict=True)],
    )


def _sum(gradients: tuple[Any, ...]) -> Any:
    """The sum of one weight's gradients, dense or row-sparse; None where it has none."""
    if isinstance(gradients[0], tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([gradient.values for gradient in gradients], axis=0),
            tf.concat([gradient.indices for gradient in gradients], axis=0),
            gradients[0].dense_shape,
        )
    return None if gradients[0] is None else tf.add_n(gradients)


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
