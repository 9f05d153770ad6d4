"""Adagrad for big tables."""

from typing import Any

import keras
import tensorflow as tf

from models.optimizers.row_sparse import RowSparse


@keras.saving.register_keras_serializable(package="ctr")
class SparseAdagrad(RowSparse, keras.optimizers.Adagrad):
    """Adagrad (Duchi et al. 2011) that touches only the batch's rows of a table.

        a <- a + g^2,    w <- w - lr * g / sqrt(a + epsilon)

    Equal to `keras.optimizers.Adagrad` on every weight: a row without gradient does not move
    there either. Arguments are Keras's, and those of `RowSparse`.
    """

    def create_slots(self, variables: list[Any]) -> None:
        # epsilon sits in the accumulator from the start, which is the same sum and lets the fused
        # operation, which knows none inside the root, do dense weights.
        initial = self.initial_accumulator_value + self.epsilon
        self._accumulators = self.add_optimizer_variables(
            variables, "accumulator", initializer=keras.initializers.Constant(initial)
        )

    def row_slots(self, index: int) -> list[Any]:
        return [self._accumulators[index]]

    def update_rows(
        self, weights: tf.Tensor, slots: list[tf.Tensor], gradient: tf.Tensor, lr: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        total = slots[0] + tf.square(gradient)
        return weights - lr * gradient * tf.math.rsqrt(total), [total]

    def update_dense(self, gradient: tf.Tensor, variable: Any, index: int, lr: tf.Tensor) -> None:
        tf.raw_ops.ResourceApplyAdagrad(
            var=variable.handle,
            accum=self._accumulators[index].value.handle,
            lr=lr,
            grad=gradient,
        )
