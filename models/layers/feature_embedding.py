"""The embedding layer: one fused table, positions pooled to fields."""

from typing import Any

import keras
from keras import ops

from models.features import Features


@keras.saving.register_keras_serializable(package="ctr")
class FeatureEmbedding(keras.layers.Layer):
    """Embeds the instance's positions and sums them within each field.

    Row e_f of field f is the sum over its positions p of `values[p] * table[ids[p]]`: v_i x_i for
    a single-valued field, and the mean of its values' vectors for a multi-valued one (whose
    values are 1/n). A padded position has value 0 and vanishes (reading 1).

    The table is one weight for all fields. Only the rows of a batch are read, never the whole
    table, so that the gradient stays row-sparse on the TensorFlow backend; rows are cast to the
    compute dtype after the pooling.

    Args:
        features: layout of the instance.
        dim: embedding size D.
        initializer: of the table; the field's usual N(0, 0.01) by default.

    Raises:
        ValueError: `dim` below 1.
    """

    def __init__(
        self,
        features: Features,
        dim: int,
        initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        # Inputs stay as they come: a numeric value must not be rounded before it is used.
        super().__init__(autocast=False, **kwargs)
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.features = Features.from_config(features)
        self.dim = dim
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=0.01)
        self.initializer = keras.initializers.get(initializer)

    def build(self, *_: Any, **__: Any) -> None:
        self.table = self.add_weight(
            name="table",
            shape=(self.features.num_features, self.dim),
            initializer=self.initializer,
            autocast=False,
        )
        self.built = True

    def call(self, inputs: dict[str, Any]) -> Any:
        """Maps `ids` int (B, P) and `values` float (B, P) to pooled vectors (B, F, D)."""
        # `.value` is the backend's own variable: on TensorFlow a gather from it reads B * P rows,
        # where converting the Keras variable first would read (and later copy) the whole table.
        # int32 ids halve the optimizer's search for repeated rows; and under `tf.distribute` Keras
        # builds a model from the mean of a batch, whose ids are floats.
        ids = ops.cast(inputs["ids"], "int32")
        rows = ops.take(self.table.value, ids, axis=0)
        values = ops.cast(inputs["values"], rows.dtype)
        pooled = pool_positions(rows * ops.expand_dims(values, -1), self.features)
        return ops.cast(pooled, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": self.features.to_config(),
            "dim": self.dim,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def pool_positions(rows: Any, features: Features) -> Any:
    """Sums `rows` (B, P, ...) over the positions of each field, giving (B, F, ...)."""
    if features.num_positions == features.num_fields:
        return rows
    pooled = []
    start = single = 0
    for field in features.fields:
        if field.positions > 1:
            if start > single:
                pooled.append(rows[:, single:start])
            pooled.append(ops.sum(rows[:, start : start + field.positions], axis=1, keepdims=True))
            single = start + field.positions
        start += field.positions
    if start > single:
        pooled.append(rows[:, single:start])
    return ops.concatenate(pooled, axis=1)


def present_fields(values: Any, features: Features) -> Any:
    """Which fields carry a feature: (B, F) bool, true where some position has x != 0 (reading 2).

    Args:
        values: float (B, P).
        features: layout of the instance.
    """
    present = ops.cast(ops.not_equal(values, 0), "float32")
    return ops.greater(pool_positions(present, features), 0)
