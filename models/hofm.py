"""Higher-Order Factorization Machine."""

from typing import Any

import keras
import numpy as np
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.anova_kernel import AnovaKernel, pair_shares
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.first_order import FirstOrder
from models.zoo import register


@register(
    "hofm",
    paper="Blondel et al., NeurIPS 2016",
    order="2 to 3, or any given",
    use="an FM with explicit triples (or more), still linear in the fields and additive",
)
@keras.saving.register_keras_serializable(package="ctr")
class HOFM(CTRModel):
    """y = w0 + sum_i w_i x_i + sum_{t=2..m} sum_d A^t(v^(t))_d   (Blondel et al. 2016).

    A^t is the ANOVA kernel: the products of all sets of t different fields (reading 1). Each order
    has vectors of its own, side by side in one row of the table.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v, in each order.
        max_order: m; 2 is the FM.
        shared_embedding: whether all orders use the same vectors.

    Raises:
        ValueError: `max_order` below 2.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        max_order: int = 3,
        shared_embedding: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if max_order < 2:
            raise ValueError(f"max_order must be at least 2, got {max_order}")
        self.embedding_dim = embedding_dim
        self.max_order = max_order
        self.shared_embedding = shared_embedding
        self.first_order = FirstOrder(self.features)
        tables = 1 if shared_embedding else max_order - 1
        self.embedding = FeatureEmbedding(
            self.features, tables * embedding_dim, dtype=self.dtype_policy
        )
        self.kernels = [
            AnovaKernel(order, dtype=self.dtype_policy) for order in range(2, max_order + 1)
        ]

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        logit = self.first_order(inputs)
        for kernel, vectors in zip(self.kernels, self.order_vectors(inputs), strict=True):
            total = ops.cast(kernel(vectors), "float32")
            logit = logit + ops.sum(total, axis=-1, keepdims=True)
        return logit

    def order_vectors(self, inputs: dict[str, Any]) -> list[Any]:
        """The vectors (B, F, D) of each order from 2 on."""
        vectors = self.embedding(inputs)
        orders = self.max_order - 1
        if self.shared_embedding:
            return [vectors] * orders
        return ops.split(vectors, orders, axis=-1)

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Every order as pairs: a product of t fields is shared by its t (t - 1) ordered pairs."""
        parts = {}
        off_diagonal = ops.convert_to_tensor(1.0 - np.eye(self.features.num_fields), "float32")
        for order, vectors in enumerate(self.order_vectors(inputs), start=2):
            shares = pair_shares(ops.cast(vectors, "float32"), order)
            parts[f"order_{order}_weights"] = ops.ones_like(shares) * off_diagonal
            parts[f"order_{order}_contributions"] = shares
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "max_order": self.max_order,
            "shared_embedding": self.shared_embedding,
        }
