"""A few steps of an optimizer on given gradients; as a program, of all of them under JAX.

    python -m tests.support.optimizer_steps WEIGHTS.npz

WEIGHTS.npz gets the weights after the steps, `OPTIMIZER/OPTIONS/PLACE`.
"""

import sys
from typing import Any

import keras
import numpy as np

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "l2 of rows": {"table_l2": 0.01},
    "l2 of the table, clipped": {
        "table_l2": 0.01,
        "table_l2_on": "table",
        "global_clipnorm": 0.5,
    },
    "a rate of its own": {"table_learning_rate": 0.3},
    "weight decay": {"weight_decay": 0.1},
}
_ROWS, _STEPS = 7, 4


def gradients(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a table (7, 3), some rows without any, and of dense weights (4,)."""
    rng = np.random.default_rng(step)
    table = rng.normal(size=(_ROWS, 3)).astype("float32")
    table[rng.permutation(_ROWS)[:3]] = 0.0
    return table, rng.normal(size=4).astype("float32")


def after_steps(cls: type[keras.optimizers.Optimizer], options: dict[str, Any]) -> list[np.ndarray]:
    """The table and the dense weights after four steps."""
    rng = np.random.default_rng(99)
    table = keras.Variable(rng.normal(size=(_ROWS, 3)).astype("float32"), name="table")
    dense = keras.Variable(rng.normal(size=4).astype("float32"), name="kernel")
    optimizer = cls(learning_rate=0.1, **options)
    for step in range(_STEPS):
        of_table, of_dense = gradients(step)
        optimizer.apply(
            [_of_lookup(of_table), keras.ops.convert_to_tensor(of_dense)], [table, dense]
        )
    return [keras.ops.convert_to_numpy(variable) for variable in (table, dense)]


def _of_lookup(gradient: np.ndarray) -> Any:
    """A table's gradient as the backend has it: on TensorFlow of the rows looked up."""
    if keras.config.backend() != "tensorflow":
        return keras.ops.convert_to_tensor(gradient)
    import tensorflow as tf

    rows = np.flatnonzero(gradient.any(axis=1)).astype("int32")
    return tf.IndexedSlices(tf.constant(gradient[rows]), tf.constant(rows), gradient.shape)


def main(target: str) -> None:
    from pipeline.optimizers import WHOLE

    found = {}
    for name, cls in WHOLE.items():
        for label, options in OPTIONS.items():
            for place, weight in enumerate(after_steps(cls, options)):
                found[f"{name}/{label}/{place}"] = weight
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
