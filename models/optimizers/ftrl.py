"""FTRL-Proximal for big tables."""

from typing import Any

import keras
import tensorflow as tf

from models.optimizers.row_sparse import RowSparse


@keras.saving.register_keras_serializable(package="ctr")
class FTRL(RowSparse, keras.optimizers.Ftrl):
    """FTRL-Proximal (McMahan et al. 2013, algorithm 1) that touches only the batch's rows.

        s <- (n + g^2)^-p - n^-p over lr,    z <- z + g' - s * w,    n <- n + g^2
        w <- (clip(z, -l1, l1) - z) / (n^-p / lr + 2 * l2 + beta / lr)

    p is `learning_rate_power` and g' = g + 2 * l2_shrinkage * w. Equal to `keras.optimizers.Ftrl`
    on rows that start at zero, the usual start of FTRL, with a constant learning rate and no
    shrinkage. A row that starts elsewhere is set to 0 by the dense rule's first step, while here
    it keeps its start until its first batch. Arguments are Keras's, and those of `RowSparse`.
    """

    def create_slots(self, variables: list[Any]) -> None:
        initial = keras.initializers.Constant(self.initial_accumulator_value)
        self._accumulators, self._linears = self.add_optimizer_variables(
            variables, ["accumulator", "linear"], initializer=[initial, "zeros"]
        )

    def row_slots(self, index: int) -> list[Any]:
        return [self._accumulators[index], self._linears[index]]

    def update_rows(
        self, weights: tf.Tensor, slots: list[tf.Tensor], gradient: tf.Tensor, lr: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        before, linear = slots
        after = before + tf.square(gradient)
        rate_before, rate_after = self._inverse_rate(before, lr), self._inverse_rate(after, lr)
        shrunk = gradient + (2.0 * self.l2_shrinkage_regularization_strength) * weights
        z = linear + shrunk - (rate_after - rate_before) * weights
        l1 = self.l1_regularization_strength
        new = (tf.clip_by_value(z, -l1, l1) - z) / (rate_after + 2.0 * self._l2(lr))
        return new, [after, z]

    def _inverse_rate(self, accumulator: tf.Tensor, lr: tf.Tensor) -> tf.Tensor:
        if self.learning_rate_power == -0.5:
            return tf.sqrt(accumulator) / lr
        return tf.pow(accumulator, -self.learning_rate_power) / lr

    def _l2(self, lr: tf.Tensor) -> tf.Tensor:
        return self.l2_regularization_strength + self.beta / (2.0 * lr)

    def update_dense(self, gradient: tf.Tensor, variable: Any, index: int, lr: tf.Tensor) -> None:
        tf.raw_ops.ResourceApplyFtrlV2(
            var=variable.handle,
            accum=self._accumulators[index].value.handle,
            linear=self._linears[index].value.handle,
            grad=gradient,
            lr=lr,
            l1=tf.cast(self.l1_regularization_strength, lr.dtype),
            l2=self._l2(lr),
            l2_shrinkage=tf.cast(self.l2_shrinkage_regularization_strength, lr.dtype),
            lr_power=tf.cast(self.learning_rate_power, lr.dtype),
        )
