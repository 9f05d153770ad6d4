"""IFM's field aspect: how much each factor counts in the interactions of two fields."""

from typing import Any

import keras
from keras import ops

from models.layers.pairs import pairwise_products


@keras.saving.register_keras_serializable(package="ctr")
class FieldImportance(keras.layers.Layer):
    """F_{i,j} = D^T (U_i * U_j) for each pair of fields (Hong et al. 2019, eq. 6).

    Without factorization (IFM-) F itself is the weight, one vector per pair of fields (reading
    13). Either way F starts near 1, where it has no effect.

    Args:
        num_fields: number of fields n.
        factors: K_F, rows of U and D; None for no factorization.
        l2: coefficient of ||U||^2 + ||D||^2, or of ||F||^2 (reading 14), added to the loss as it
            is (reading 4).

    Raises:
        ValueError: fewer than two fields or fewer than one factor.
    """

    def __init__(
        self, num_fields: int, factors: int | None = 8, l2: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if num_fields < 2:
            raise ValueError(f"num_fields must be at least 2, got {num_fields}")
        if factors is not None and factors < 1:
            raise ValueError(f"factors must be at least 1, got {factors}")
        self.num_fields = num_fields
        self.factors = factors
        self.l2 = l2

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, num_pairs, dim = input_shape
        if self.factors is None:
            self.raw = self._weight("raw", (num_pairs, dim), mean=1.0, stddev=0.1)
        else:
            share = 1.0 / self.factors
            self.field = self._weight("field", (self.num_fields, self.factors), 1.0, 0.1)
            self.factor = self._weight("factor", (self.factors, dim), share, 0.1 * share**0.5)
        self.built = True

    def _weight(self, name: str, shape: tuple[int, int], mean: float, stddev: float) -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.RandomNormal(mean, stddev),
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            autocast=False,
        )

    def importance(self) -> Any:
        """F, float32 (R, D)."""
        if self.factors is None:
            return ops.convert_to_tensor(self.raw)
        prototypes = pairwise_products(self.field[None])[0]
        return ops.matmul(prototypes, self.factor)

    def call(self, interactions: Any) -> Any:
        """Multiplies interaction vectors (B, R, D) by F."""
        return interactions * ops.cast(self.importance(), interactions.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_fields": self.num_fields,
            "factors": self.factors,
            "l2": self.l2,
        }
