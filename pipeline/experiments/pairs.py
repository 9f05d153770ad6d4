"""Which interactions a model holds important: the mean weight of each pair of fields."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

_ROWS = 20_000


def mean_pairs(
    model: keras.Model, prepared: "PreparedDataset", split: str = "validation", rows: int = _ROWS
) -> dict[str, Any]:
    """Means over a split's first rows: weights as they are, contributions as absolute values.

    Returns:
        `fields` (F names), and for each `order_k_weights` and `order_k_contributions` that the
        model explains a matrix (F, F) as lists.
    """
    arrays = prepared.arrays(split)
    ids, values = arrays["ids"][:rows], arrays["values"][:rows]
    explain = tf.function(model.explain, reduce_retracing=True)
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(ids), 1024):
        part = slice(start, start + 1024)
        found = explain({"ids": tf.constant(ids[part]), "values": tf.constant(values[part])})
        for name, matrix in found.items():
            if name.startswith("order_"):
                matrix = matrix.numpy()
                matrix = np.abs(matrix) if name.endswith("contributions") else matrix
                sums[name] = sums.get(name, 0.0) + matrix.sum(axis=0)
    means = {name: np.round(total / len(ids), 5).tolist() for name, total in sums.items()}
    return {"fields": [field["name"] for field in prepared.fields], **means}
