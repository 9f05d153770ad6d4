"""The optimizer of a run: which class, and whether tables are updated whole or by row.

Updating by row costs what the batch's rows cost, at any table size; updating whole costs the
table, but runs as one fused pass that XLA compiles. `models.optimizers.choice` holds the measured
crossover that `tables: auto` uses. For Adam the two are different rules: by row, moments do not
decay while a row is absent ("lazy"); `exact: true` applies the skipped decay when it returns, after
the forward pass of that step has read the row without it.
"""

import inspect
from typing import Any

import keras

from models.optimizers import (
    FTRL,
    RowSparse,
    SparseAdagrad,
    SparseAdam,
    SparseSGD,
    WholeAdagrad,
    WholeAdam,
    WholeFTRL,
    WholeSGD,
)
from models.optimizers.choice import table_update
from pipeline.config import OptimizerConfig
from pipeline.errors import PipelineError, nearest

BY_ROW = {"adam": SparseAdam, "adagrad": SparseAdagrad, "sgd": SparseSGD, "ftrl": FTRL}
# The same on a backend without row-sparse gradients.
WHOLE = {"adam": WholeAdam, "adagrad": WholeAdagrad, "sgd": WholeSGD, "ftrl": WholeFTRL}
WHOLE_ONLY = {
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "nadam": keras.optimizers.Nadam,
    "lion": keras.optimizers.Lion,
}


def build_optimizer(
    config: OptimizerConfig, num_features: int, num_positions: int, batch_size: int
) -> keras.optimizers.Optimizer:
    """The optimizer named; raises PipelineError on an unknown name or a wrong argument."""
    cls = optimizer_class(config)
    arguments: dict[str, Any] = config.arguments
    if issubclass(cls, RowSparse):
        by_size = table_update(num_features, num_positions, batch_size)
        wished = {"auto": arguments.get("table_update", by_size), "dense": "whole"}
        arguments["table_update"] = wished.get(config.tables, "rows")
    try:
        return cls(learning_rate=config.learning_rate, **arguments)
    except (TypeError, ValueError) as error:
        raise PipelineError(f"optimizer {config.name!r}: {error}") from error


def optimizer_class(config: OptimizerConfig) -> type[keras.optimizers.Optimizer]:
    """The class named; raises PipelineError on a name or an argument that there is not."""
    backend = keras.config.backend()
    known = {**(BY_ROW if backend == "tensorflow" else WHOLE), **WHOLE_ONLY}
    if config.name not in known:
        raise PipelineError(
            f"optimizer.name: unknown optimizer {config.name!r}{nearest(config.name, known)}"
        )
    accepted = _arguments(known[config.name])
    for key, value in config.arguments.items():
        if key not in accepted:
            raise PipelineError(f"optimizer.{key}: unknown key{nearest(key, accepted)}")
        # Keras would take it, and TensorFlow fail within the first step.
        if isinstance(value, str) and not isinstance(accepted[key], str):
            raise PipelineError(
                f"optimizer.{key}: {value!r} is text, not a value like {accepted[key]}"
            )
        # Keras takes these too; a negative norm, for one, turns every gradient around.
        if _negative(value) and not _negative(accepted[key]):
            raise PipelineError(f"optimizer.{key}: must not be negative, got {value}")
        if key == "ema_momentum" and value == 1:
            raise PipelineError(
                f"optimizer.{key}: at 1 averages stay as they begin; below 1 needed"
            )
    if config.tables == "sparse" and backend != "tensorflow":
        raise PipelineError(
            f"optimizer.tables: an update by row needs the TensorFlow backend, this is {backend}"
        )
    if config.name in WHOLE_ONLY and config.tables == "sparse":
        raise PipelineError(
            f"optimizer.tables: {config.name} has no update by row; those that have: "
            f"{', '.join(BY_ROW)}"
        )
    return known[config.name]


def _negative(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0


def _arguments(cls: type) -> dict[str, Any]:
    """What a class takes by name, its parents' arguments included, with the defaults."""
    found: dict[str, Any] = {}
    for parent in reversed(cls.__mro__):
        if "__init__" in vars(parent):
            parameters = inspect.signature(parent.__init__).parameters
            found.update({name: parameter.default for name, parameter in parameters.items()})
    hidden = ("self", "args", "kwargs", "learning_rate", "loss_scale_factor")
    return {name: default for name, default in found.items() if name not in hidden}


def updates_whole(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a step is dense throughout, so that XLA can compile all of it."""
    if not isinstance(optimizer, RowSparse):
        return True
    return optimizer.table_update == "whole" or optimizer.table_l2_on == "table"


def gains_from_xla(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a step is faster as one XLA computation: all but accumulation by row, where XLA,
    which does not know how many rows a few batches touch, makes room for all of the table."""
    return updates_whole(optimizer) or not optimizer.gradient_accumulation_steps


def catch_up(optimizer: keras.optimizers.Optimizer, variables: list[Any]) -> None:
    """Bring every row, and every row's average, up to date before they are read: what is updated
    by row waits, the rows of exact Adam, and averages."""
    if isinstance(optimizer, RowSparse):
        optimizer.catch_up_averages(variables)
    if isinstance(optimizer, SparseAdam) and optimizer.exact and not updates_whole(optimizer):
        optimizer.catch_up_tables(variables)
