"""PNN's product layer."""

from typing import Any

import keras
from keras import ops

from models.layers.flatten_fields import flatten_fields

PRODUCTS = ("full", "factorised", "superposition")


@keras.saving.register_keras_serializable(package="ctr")
class ProductLayer(keras.layers.Layer):
    """l_z + l_p + b: a linear and a quadratic signal of the field vectors f   (Qu et al. 2016).

        l_z = sum_i W_i f_i
        full:           l_p,n = sum_{i,j} W_nij <f_i, f_j>            inner products, eq. 8-10
        factorised:     l_p,n = |sum_i theta_ni f_i|^2                W_n of rank one, eq. 11-12
        superposition:  l_p,n = W_n . (f_S f_S^T), f_S = sum_i f_i    outer products, eq. 13-14

    The paper's forms (reading 41); all pairs i, j, the diagonal included.

    Args:
        units: size N of the signals.
        product: "full", "factorised" or "superposition".

    Raises:
        ValueError: `units` below 1 or another product.
    """

    def __init__(self, units: int, product: str = "full", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        if product not in PRODUCTS:
            raise ValueError(f"product must be one of {', '.join(PRODUCTS)}; got {product!r}")
        self.units = units
        self.product = product
        self.linear = keras.layers.Dense(units, dtype=self.dtype_policy, name="linear")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, num_fields, dim = input_shape
        self.linear.build((None, num_fields * dim))
        rows = {"full": num_fields**2, "factorised": num_fields, "superposition": dim**2}
        self.kernel = self.add_weight(
            name="kernel", shape=(rows[self.product], self.units), initializer="glorot_uniform"
        )
        self.built = True

    def call(self, vectors: Any) -> Any:
        """Maps field vectors (B, F, D) to signals (B, N)."""
        return self.linear(flatten_fields(vectors)) + self._quadratic(vectors)

    def _quadratic(self, vectors: Any) -> Any:
        if self.product == "full":
            gram = ops.matmul(vectors, ops.swapaxes(vectors, 1, 2))
            return ops.matmul(flatten_fields(gram), self.kernel)
        if self.product == "factorised":
            weighted = ops.matmul(ops.swapaxes(vectors, 1, 2), self.kernel)
            return ops.sum(ops.square(weighted), axis=1)
        total = ops.sum(vectors, axis=1)
        outer = ops.expand_dims(total, 1) * ops.expand_dims(total, 2)
        return ops.matmul(flatten_fields(outer), self.kernel)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "product": self.product}
