"""What the row-sparse optimizers share: tables get their rows updated, dense weights as usual."""

from typing import Any

import keras
import tensorflow as tf

from models.optimizers.repeated_rows import RepeatedRows
from models.optimizers.row_averages import RowAverages
from models.optimizers.rows import add_rows, gather_rows, native, write_rows
from models.optimizers.table_options import TableOptions

_UPDATES = ("rows", "whole")


class RowSparse(TableOptions):
    """Mixin before a Keras optimizer: a step costs what the batch's rows cost, not the table.

    A *table* is a weight whose gradient arrives as `tf.IndexedSlices`, which is what a lookup
    yields. Every other weight is dense and updated by one fused operation. The subclass says how,
    in `update_rows` and `update_dense`.

    What the usual options mean for a table, with u the distinct rows of the batch:

    * Repeated rows are summed first, so every rule sees the gradient the dense form would see.
    * `clipnorm`, `global_clipnorm`, `clipvalue` act on the summed gradient: equal to dense.
    * `weight_decay` shrinks only u: a row not in the batch is not decayed.
    * `table_l2` = l adds the gradient of l * ||row||^2 on u, after clipping (before it where the
      table is updated whole); the penalty is not in the reported loss. `table_l2_on="table"` takes
      all rows (BARS's rule, whose coefficient is twice l), which costs the whole table.
    * `gradient_accumulation_steps` adds rows into Keras's accumulator and remembers which; the
      memory of one more table and, once per update, a pass over one flag per row.
    * `use_ema` averages a table's rows when they move (`RowAverages`): equal to dense, for one more
      table and a counter a row. `catch_up_averages` brings all rows' averages up to date; it must
      come before they are read. Refused beside gradient accumulation by row, and with
      `ema_overwrite_frequency`.
    * `table_update="whole"` turns the gradient dense and updates all of the table by the fused
      operation; exactly Keras's rule, and XLA compiles it (`jit_compile=True`). For small tables:
      see `models.optimizers.choice`.

    Under `tf.distribute` the replicas' slices are gathered (Keras's all-reduce of `IndexedSlices`
    concatenates them) and summed again; each replica then writes the same rows. Clipping happens
    in each replica before that, as in Keras. Gradient accumulation is refused there.

    Args:
        table_update: "rows", or "whole".
        table_learning_rate, table_l2, table_l2_on: see `TableOptions`.

    Raises:
        ValueError: an option out of range, or `loss_scale_factor`, which Keras divides
            `IndexedSlices` by and fails: wrap the optimizer in
            `keras.optimizers.LossScaleOptimizer`.
    """

    def __init__(
        self,
        *args: Any,
        table_update: str = "rows",
        **kwargs: Any,
    ) -> None:
        if kwargs.get("loss_scale_factor"):
            raise ValueError(
                "loss_scale_factor is not supported: wrap the optimizer in "
                "keras.optimizers.LossScaleOptimizer"
            )
        if table_update not in _UPDATES:
            raise ValueError(f"table_update must be one of {_UPDATES}, got {table_update!r}")
        super().__init__(*args, **kwargs)
        self.table_update = table_update
        self._table_keys: set[str] = set()
        self._repeated = RepeatedRows()
        by_row = table_update == "rows" and self.table_l2_on == "rows"
        self._row_averages = RowAverages(self.ema_momentum) if self.use_ema and by_row else None
        for option in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
            if self._row_averages and getattr(self, option):
                raise ValueError(
                    f'use_ema with {option} needs table_update="whole" (`tables: dense` in a run)'
                )

    def build(self, variables: list[Any]) -> None:
        """Creates the slots of every weight, and the flags gradient accumulation needs."""
        if self.built:
            return
        keras.optimizers.Optimizer.build(self, variables)
        self.create_slots(variables)
        if self._row_averages:
            steps = [self.add_row_variable(v, "average_step", "int32") for v in variables]
            self._row_averages.build(self._model_variables_moving_average, steps)
        if self.gradient_accumulation_steps:
            self._touched = [self.add_row_variable(v, "touched", "bool") for v in variables]

    def create_slots(self, variables: list[Any]) -> None:
        """Creates the optimizer's own variables; none by default."""

    def row_slots(self, index: int) -> list[Any]:
        """The slots of weight number `index` that `update_rows` changes; none by default."""
        return []

    def update_rows(
        self, weights: tf.Tensor, slots: list[tf.Tensor], gradient: tf.Tensor, lr: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The rule, on rows taken out of the table and its slots; it writes nothing.

        Args:
            weights: current rows (U, ...), decayed where `weight_decay` says so.
            slots: the same rows of `row_slots`.
            gradient: summed gradient (U, ...).
            lr: scalar learning rate of the tables.

        Returns:
            the new rows (U, ...) and the new rows of the slots.
        """
        raise TypeError(f"{type(self).__name__} does not define update_rows()")

    def update_dense(self, gradient: tf.Tensor, variable: Any, index: int, lr: tf.Tensor) -> None:
        """Updates the whole `tf.Variable`, weight number `index`, in place."""
        raise TypeError(f"{type(self).__name__} does not define update_dense()")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's hook: one weight, its gradient as clipped and all-reduced."""
        index = self._get_variable_index(variable)
        if not isinstance(gradient, tf.IndexedSlices):
            if self._var_key(variable) in self._table_keys:
                learning_rate = self.table_rate(learning_rate)
            lr = tf.cast(learning_rate, variable.dtype)
            self.update_dense(tf.cast(gradient, variable.dtype), native(variable), index, lr)
            return
        if self._is_merged():
            rows, slices = gradient.indices, gradient
        else:
            rows, slices = self._repeated.merge(gradient)
        new = self._new_rows(rows, slices.values, variable, learning_rate)
        self.write_new_rows(slices.indices, new, variable)

    def _new_rows(
        self, rows: tf.Tensor, gradient: tf.Tensor, variable: Any, learning_rate: Any
    ) -> list[tf.Tensor]:
        """What the step makes of rows (U,) of a table and its slots, given their summed gradient
        (U, ...)."""
        index = self._get_variable_index(variable)
        lr = tf.cast(self.table_rate(learning_rate), variable.dtype)
        before, values = gather_rows(variable, rows), tf.cast(gradient, variable.dtype)
        weights = before
        if self.table_l2:
            values += (2.0 * self.table_l2) * weights
        if self.weight_decay is not None and self._use_weight_decay(variable):
            weights *= 1.0 - lr * tf.cast(self.weight_decay, lr.dtype)
        slots = [gather_rows(slot, rows) for slot in self.row_slots(index)]
        weights, slots = self.update_rows(weights, slots, values, lr)
        if self._row_averages:
            averages = [gather_rows(slot, rows) for slot in self._row_averages.slots(index)]
            step = tf.cast(self.iterations + 1, tf.int32)
            slots = [*slots, *self._row_averages.moved(before, weights, averages, step)]
        return [weights, *slots]

    def write_new_rows(self, rows: tf.Tensor, new: list[tf.Tensor], variable: Any) -> None:
        """Writes new rows (U, ...) of the table and of each of its slots."""
        self._table_keys.add(self._var_key(variable))
        index = self._get_variable_index(variable)
        targets = [variable, *self.row_slots(index)]
        if self._row_averages:
            targets += self._row_averages.slots(index)
        for target, values in zip(targets, new, strict=True):
            write_rows(target, rows, values)

    def catch_up_averages(self, variables: list[Any]) -> None:
        """Brings the averages of those variables that are updated by row up to date."""
        step = tf.cast(self.iterations, tf.int32)
        for variable in variables if self._row_averages else []:
            index = self._get_variable_index(variable)
            if self._row_averages.holds(index):
                self._row_averages.catch_up(variable, index, step)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Keras's hook at the end of `fit`, where averages take the weights' place."""
        self.catch_up_averages(var_list)
        super().finalize_variable_values(var_list)

    def _update_model_variables_moving_average(self, trainable_variables: list[Any]) -> None:
        if not self._row_averages:
            super()._update_model_variables_moving_average(trainable_variables)
            return
        momentum = tf.where(self.iterations == 0, 0.0, self.ema_momentum)
        averages = self._model_variables_moving_average
        for index, (variable, average) in enumerate(
            zip(trainable_variables, averages, strict=True)
        ):
            if not self._row_averages.holds(index):
                share = tf.cast(momentum, variable.dtype)
                average.assign(share * average + (1 - share) * variable)

    def _is_merged(self) -> bool:
        """Whether the gradients reached `update_step` with distinct rows."""
        clips = self.clipnorm or self.global_clipnorm or self.clipvalue
        alone = self._distribution_strategy.num_replicas_in_sync == 1
        return alone and bool(clips or self.gradient_accumulation_steps)

    def _backend_apply_gradients(self, grads: list[Any], trainable_variables: list[Any]) -> None:
        self._repeated.forget()
        pairs = list(zip(grads, trainable_variables, strict=True))
        tables = [v for g, v in pairs if isinstance(g, tf.IndexedSlices)]
        self._table_keys.update(self._var_key(v) for v in tables)
        if self.table_update == "whole" or self.table_l2_on == "table":
            grads = [self._whole_gradient(g, v) for g, v in pairs]
        elif self.gradient_accumulation_steps and tables:
            self._accumulate_rows(grads, trainable_variables)
            return
        super()._backend_apply_gradients(grads, trainable_variables)

    def _whole_gradient(self, gradient: Any, variable: Any) -> Any:
        """The dense form of a table's gradient, with the L2 term."""
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        count = variable.shape[0]
        dense = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, count)
        if not self.table_l2:
            return dense
        penalty = (2.0 * self.table_l2) * tf.convert_to_tensor(native(variable))
        if self.table_l2_on == "rows":
            ones = tf.ones_like(gradient.indices, dtype=dense.dtype)
            seen = tf.math.unsorted_segment_sum(ones, gradient.indices, count) > 0
            penalty = tf.where(tf.reshape(seen, [count] + [1] * (dense.shape.rank - 1)), penalty, 0)
        return dense + penalty

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if not (self.clipnorm or self.global_clipnorm or self.clipvalue):
            return grads
        grads = [
            self._repeated.merge(g)[1] if isinstance(g, tf.IndexedSlices) else g for g in grads
        ]
        if self.global_clipnorm:
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]
        if self.clipnorm:
            return [tf.clip_by_norm(g, self.clipnorm) for g in grads]
        return [tf.clip_by_value(g, -self.clipvalue, self.clipvalue) for g in grads]

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Decays the dense weights; a table's rows are decayed where they are updated."""
        whole = self.table_update == "whole" or self.table_l2_on == "table"
        super()._apply_weight_decay(
            [v for v in variables if whole or self._var_key(v) not in self._table_keys]
        )

    def _accumulate_rows(self, grads: list[Any], variables: list[Any]) -> None:
        """Gradient accumulation that touches only the rows of each batch."""
        if self._distribution_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "gradient_accumulation_steps with tables is not supported under tf.distribute: "
                "use a larger batch"
            )
        steps = self.gradient_accumulation_steps
        indices = [self._get_variable_index(v) for v in variables]
        for gradient, index in zip(grads, indices, strict=True):
            accumulator = self._accumulated_gradients[index]
            if isinstance(gradient, tf.IndexedSlices):
                add_rows(accumulator, gradient.indices, gradient.values)
                touched = tf.ones_like(gradient.indices, dtype=tf.bool)
                write_rows(self._touched[index], gradient.indices, touched)
            else:
                accumulator.assign_add(gradient)

        def update() -> None:
            mean = [
                self._take_accumulated(g, i, steps) for g, i in zip(grads, indices, strict=True)
            ]
            mean = self._clip_gradients(mean)
            self._apply_weight_decay(variables)
            self._backend_update_step(mean, variables, self.learning_rate)

        keras.ops.cond((self._iterations + 1) % steps == 0, update, lambda: None)

    def _take_accumulated(self, gradient: Any, index: int, steps: int) -> Any:
        """Mean gradient of the steps accumulated for weight `index`; empties the accumulator."""
        accumulator = self._accumulated_gradients[index]
        if not isinstance(gradient, tf.IndexedSlices):
            mean = tf.identity(accumulator.value) / steps
            accumulator.assign(tf.zeros_like(mean))
            return mean
        touched = self._touched[index]
        rows = tf.cast(tf.squeeze(tf.where(touched.value), axis=1), tf.int32)
        values = gather_rows(accumulator, rows)
        write_rows(accumulator, rows, tf.zeros_like(values))
        write_rows(touched, rows, tf.zeros_like(rows, dtype=tf.bool))
        return tf.IndexedSlices(values / steps, rows, gradient.dense_shape)

    def add_row_variable(self, variable: Any, name: str, dtype: str) -> Any:
        """A slot with one entry per row of `variable`, zeros."""
        shape = tuple(variable.shape[:1]) or (1,)
        path = getattr(variable, "path", variable.name).replace("/", "_")
        return self.add_variable(shape, "zeros", dtype, name=f"{path}_{name}")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["loss_scale_factor"]
        return {**config, "table_update": self.table_update}
