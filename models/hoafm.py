"""High-order attentive factorization machine."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.bitwise_aggregation import BitwiseAggregation
from models.layers.dropout import Dropout
from models.layers.feature_embedding import FeatureEmbedding
from models.zoo import register


@register(
    "hoafm",
    paper="Tao et al., Information Processing and Management 2020",
    order="2 to L + 1",
    use="additive at every order, with one learnt weight vector for each pair of fields",
)
@keras.saving.register_keras_serializable(package="ctr")
class HoAFM(CTRModel):
    """y = sum_l c_l . sum_i y_i^(l),  y_i^(l) = e_i * sum_{j != i} w_ij^(l) * x_j^(l-1).

    x^(0) are the embeddings and x^(l) = LeakyReLU(y^(l)), slope 0.2; w is a unit-length weight
    vector of each pair, layer by layer (`BitwiseAggregation`). The form is that of the GraphFM
    authors' baseline, as HoAFM's own paper was not at hand; it keeps the last order alone
    (`all_orders=False`), where this sums all of them. Low confidence (reading 40).

    The explanation splits the logit exactly over the pairs of each order.

    Args:
        features: layout of the instance.
        embedding_dim: size D of e.
        num_layers: L, at least 1.
        all_orders: False for the last order alone.
        dropout: rate on each order's pooled vector and on x, in training.

    Raises:
        ValueError: `num_layers` below 1, or a single field.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        all_orders: bool = True,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.all_orders = all_orders
        self.dropout = dropout
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.aggregations = [BitwiseAggregation(dtype=policy) for _ in range(num_layers)]
        self.drop = Dropout(dropout, dtype=policy)
        self.projection = keras.layers.Dense(1, use_bias=False, dtype=policy, name="projection")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        base = self.embedding(inputs)
        vectors, pooled = base, []
        for aggregation in self.aggregations:
            interactions = base * aggregation(vectors)
            pooled.append(self.drop(ops.sum(interactions, axis=1), training=training))
            vectors = self.drop(_activation(interactions), training=training)
        kept = pooled if self.all_orders else pooled[-1:]
        return ops.cast(self.projection(ops.concatenate(kept, axis=-1)), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        base = self.embedding(inputs)
        outputs = ops.reshape(self.projection.kernel, (-1, self.embedding_dim))
        vectors, parts = base, {}
        for layer, aggregation in enumerate(self.aggregations):
            if self.all_orders or layer == self.num_layers - 1:
                output = outputs[layer if self.all_orders else 0]
                shares = aggregation.contributions(base, vectors, output)
                # The weight of a pair is a vector, the same for every row: its length is shown.
                sizes = ops.sqrt(ops.sum(ops.square(aggregation.pair_weights()), axis=-1))
                weights = ops.zeros_like(shares) + ops.cast(sizes, shares.dtype)
                parts[f"order_{layer + 2}_weights"] = weights
                parts[f"order_{layer + 2}_contributions"] = shares
            vectors = _activation(base * aggregation(vectors))
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "all_orders": self.all_orders,
            "dropout": self.dropout,
        }


def _activation(interactions: Any) -> Any:
    return ops.leaky_relu(interactions, negative_slope=0.2)
