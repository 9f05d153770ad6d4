"""Stochastic gradient descent for big tables."""

from typing import Any

import keras
import tensorflow as tf

from models.optimizers.row_sparse import RowSparse


@keras.saving.register_keras_serializable(package="ctr")
class SparseSGD(RowSparse, keras.optimizers.SGD):
    """SGD, optionally with momentum, that touches only the batch's rows of a table.

        w <- w - lr * g,    or with momentum    m <- momentum * m - lr * g,    w <- w + m

    Without momentum equal to `keras.optimizers.SGD`. With it, a row's momentum is *lazy*: it
    neither decays nor moves the row in steps whose batch lacks it. Arguments are Keras's, and
    those of `RowSparse`.
    """

    def create_slots(self, variables: list[Any]) -> None:
        self.momentums = []
        if self.momentum:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def row_slots(self, index: int) -> list[Any]:
        return [self.momentums[index]] if self.momentum else []

    def update_rows(
        self, weights: tf.Tensor, slots: list[tf.Tensor], gradient: tf.Tensor, lr: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        step = lr * gradient
        if not self.momentum:
            return weights - step, []
        momentum = self.momentum * slots[0] - step
        return weights + (self.momentum * momentum - step if self.nesterov else momentum), [
            momentum
        ]

    def update_dense(self, gradient: tf.Tensor, variable: Any, index: int, lr: tf.Tensor) -> None:
        if self.momentum:
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=self.momentums[index].value.handle,
                lr=lr,
                grad=gradient,
                momentum=tf.cast(self.momentum, lr.dtype),
                use_nesterov=self.nesterov,
            )
        else:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=lr, delta=gradient)
