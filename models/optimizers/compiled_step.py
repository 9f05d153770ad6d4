"""XLA for everything but the tables: forward and backward pass as one compiled function."""

from typing import Any

import keras
import tensorflow as tf


def compile_dense_part(model: keras.Model) -> None:
    """Has `fit` run forward pass, loss and gradients through XLA, and the optimizer outside.

    `jit_compile=True` would compile the optimizer too, and XLA knows no row-sparse update. Here
    the gradient of a table leaves the compiled function as slices (N, D), and the optimizer
    updates the rows in place; no table is ever copied. XLA fuses the many small elementwise
    operations of a click model, which TensorFlow runs one by one. It compiles once for each batch
    size, which takes seconds: leave out or pad the last partial batch where that matters.

    Call after `compile`, which must not have set `jit_compile`. Not under `tf.distribute` (each
    replica would compile for itself).

    Args:
        model: a compiled Keras model; its `train_step` is replaced.

    Raises:
        ValueError: the model is not compiled, or compiled with `jit_compile=True`.
    """
    if not model.compiled:
        raise ValueError("compile_dense_part needs a compiled model: call model.compile() before")
    if model.jit_compile is True:
        raise ValueError("compile_dense_part replaces jit_compile=True: compile without it")

    @tf.function(jit_compile=True)
    def forward_backward(x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            prediction = model(x, training=True)
            loss = model.compute_loss(x, y, prediction, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in model.trainable_variables])
        return loss, prediction, gradients

    loss_tracker = next(metric for metric in model.metrics if metric.name == "loss")

    def train_step(data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss, prediction, gradients = forward_backward(x, y, sample_weight)
        loss_tracker.update_state(loss, sample_weight=tf.shape(keras.tree.flatten(x)[0])[0])
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return model.compute_metrics(x, y, prediction, sample_weight)

    model.train_step = train_step
    model.train_function = None
