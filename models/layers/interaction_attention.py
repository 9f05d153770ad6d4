"""The interaction-level attention of AoAFFM."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ctr")
class InteractionAttention(keras.layers.Layer):
    """One trained weight q_r per pair of fields, multiplied to its interaction (Wang et al. 2020).

    Q knows nothing of the embedding vectors, so it can tell apart pairs whose vectors are alike.
    It is neither normalised nor activated (readings 7 and 8) and starts near 1, where it has no
    effect.

    Args:
        per_dimension: whether q_r is a vector of size D instead of a scalar (reading 7).
        l2: coefficient of ||Q||^2, added to the loss as it is (reading 4).
    """

    def __init__(self, per_dimension: bool = False, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.per_dimension = per_dimension
        self.l2 = l2

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, num_pairs, dim = input_shape
        self.weight = self.add_weight(
            name="weight",
            shape=(num_pairs, dim if self.per_dimension else 1),
            initializer=keras.initializers.RandomNormal(mean=1.0, stddev=0.01),
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
        )
        self.built = True

    def call(self, interactions: Any) -> Any:
        """Scales interaction vectors (B, R, D)."""
        return interactions * self.weight

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "per_dimension": self.per_dimension, "l2": self.l2}
