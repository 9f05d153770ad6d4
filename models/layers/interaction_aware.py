"""IFM's interaction-aware mechanism."""

from typing import Any

import keras
from keras import ops

from models.layers.attention_pooling import AttentionPooling
from models.layers.dropout import Dropout
from models.layers.field_importance import FieldImportance
from models.layers.pairs import pair_indices, pairwise_products, present_pairs

FIELD_ASPECTS = ("factorized", "full", "none")
_NEWTON_STEPS = 12


@keras.saving.register_keras_serializable(package="ctr")
class InteractionAware(keras.layers.Layer):
    """Weighs each pair's interaction by its features and by its fields (Hong et al. 2019, eq. 4-6).

        T_ij = softmax(h . ReLU(W (v_i * v_j) + b) / tau)      feature aspect
        F_ij = D^T (U_i * U_j)                                 field aspect
        out_ij = T_ij F_ij * v_i * v_j

    out is what GIM hands to G: the elements of its two sets, multiplied (eq. 11 and 14). The
    softmax runs over the pairs that exist (readings 2 and 11); an aspect switched off is 1 (reading
    12). Dropout falls on `out`, in training (reading 10).

    Sampling, in training only: each batch draws a share of the pairs without replacement, with
    probability proportional to ||F_ij||, and T is a softmax over the pairs drawn (reading 17).
    There each pair counts 1 / (its probability to be among them) times, as one that stands for
    others of its kind: so the mean over the draws is near the T over all pairs that predicts.
    Counted once each, the pairs that are drawn often would make every output of training larger
    than the one predicted.

    Args:
        attention_dim: hidden size K_a of the attention network.
        field_factors: K_F, for the factorized field aspect.
        temperature: tau.
        feature_aspect: whether T is learned.
        field_aspect: "factorized", "full" (IFM-: F itself is a weight) or "none".
        sampling: share of the pairs a training batch keeps; 1 for all.
        dropout: rate on the weighted interactions.
        activation: of the attention network (reading 15).
        field_l2: coefficient of the field aspect's squared norms (reading 14).

    Raises:
        ValueError: another `field_aspect`, a share outside (0, 1], or sampling with an aspect off.
    """

    def __init__(
        self,
        attention_dim: int = 16,
        field_factors: int = 8,
        temperature: float = 10.0,
        feature_aspect: bool = True,
        field_aspect: str = "factorized",
        sampling: float = 1.0,
        dropout: float = 0.0,
        activation: str = "relu",
        field_l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if field_aspect not in FIELD_ASPECTS:
            raise ValueError(
                f"field_aspect must be one of {', '.join(FIELD_ASPECTS)}, got {field_aspect!r}"
            )
        if not 0 < sampling <= 1:
            raise ValueError(f"sampling must be a share in (0, 1], got {sampling}")
        if sampling < 1 and not (feature_aspect and field_aspect != "none"):
            raise ValueError("sampling needs both the feature aspect and the field aspect")
        self.attention_dim = attention_dim
        self.field_factors = field_factors
        self.temperature = temperature
        self.feature_aspect = feature_aspect
        self.field_aspect = field_aspect
        self.sampling = sampling
        self.dropout = dropout
        self.activation = activation
        self.field_l2 = field_l2
        self.drop = Dropout(dropout, dtype=self.dtype_policy)
        self.attention = self.field = None
        if feature_aspect:
            self.attention = AttentionPooling(
                attention_dim,
                temperature=temperature,
                activation=activation,
                dtype=self.dtype_policy,
            )
        if sampling < 1:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple[int | None, ...], *_: Any) -> None:
        batch, num_fields, dim = input_shape
        interactions_shape = (batch, num_fields * (num_fields - 1) // 2, dim)
        if self.feature_aspect:
            self.attention.build(interactions_shape)
        if self.field_aspect != "none":
            factors = self.field_factors if self.field_aspect == "factorized" else None
            self.field = FieldImportance(
                num_fields, factors, self.field_l2, dtype=self.dtype_policy, name="field"
            )
            self.field.build(interactions_shape)
        self.built = True

    def call(self, vectors: Any, present: Any = None, training: bool | None = None) -> Any:
        """Maps field vectors (B, F, D), `present` bool (B, F), to weighted interactions (B, R, D).

        In training with sampling, only the C pairs drawn: (B, C, D).
        """
        drawn, log_counts = self.draw() if training and self.sampling < 1 else (None, None)
        interactions, pairs = _candidates(vectors, present, drawn)
        weighted = interactions
        if self.field is not None:
            importance = self.field.importance()
            if drawn is not None:
                importance = ops.take(importance, drawn, axis=0)
            weighted = weighted * ops.cast(importance, weighted.dtype)
        if self.attention is not None:
            weights = self.attention.attention(interactions, pairs, log_counts)
            weighted = weighted * ops.expand_dims(weights, -1)
        return self.drop(weighted, training=training)

    def draw(self) -> tuple[Any, Any]:
        """The pairs of one training batch, int (C,), and the log of how often each counts, (C,)."""
        norms = ops.stop_gradient(ops.norm(self.field.importance(), axis=-1))
        norms = norms + keras.config.epsilon()  # a pair of importance 0 has a logarithm too
        count = max(1, round(self.sampling * norms.shape[0]))
        # The largest of log weight plus Gumbel noise: draws by weight, without replacement.
        uniform = keras.random.uniform(norms.shape, seed=self.seed_generator)
        drawn = ops.top_k(ops.log(norms) - ops.log(-ops.log(uniform)), count)[1]
        return drawn, -ops.log(ops.take(_drawn_with(norms, count), drawn))

    def pair_weights(self, vectors: Any, present: Any = None) -> Any:
        """What the paper reads importance from: T_ij ||F_ij||, (B, R), an aspect off being 1."""
        interactions, pairs = _candidates(vectors, present, None)
        if self.attention is not None:
            weights = self.attention.attention(interactions, pairs)
        else:
            weights = ops.ones_like(interactions[..., 0])
            weights = weights if pairs is None else weights * ops.cast(pairs, weights.dtype)
        if self.field is not None:
            weights = weights * ops.cast(ops.norm(self.field.importance(), axis=-1), weights.dtype)
        return weights

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "attention_dim": self.attention_dim,
            "field_factors": self.field_factors,
            "temperature": self.temperature,
            "feature_aspect": self.feature_aspect,
            "field_aspect": self.field_aspect,
            "sampling": self.sampling,
            "dropout": self.dropout,
            "activation": self.activation,
            "field_l2": self.field_l2,
        }


def _drawn_with(norms: Any, count: int) -> Any:
    """The probability of each pair to be among `count` drawn by norm without replacement, (R,).

    To draw so is to wait for the first `count` of R clocks that ring at rates p, the norms' shares.
    By the time t at which `count` are expected to have rung, one has with probability
    1 - exp(-t p); for 22 of 45 pairs that is right to .01. Newton's method finds t from below.
    """
    if count == norms.shape[0]:
        return ops.ones_like(norms)
    rates = norms / ops.sum(norms)
    time = ops.cast(count, rates.dtype)
    for _ in range(_NEWTON_STEPS):
        silent = ops.exp(-time * rates)
        missing = count - ops.sum(1.0 - silent)
        time = time + missing / ops.sum(rates * silent)
    return 1.0 - ops.exp(-time * rates)


def _candidates(vectors: Any, present: Any, drawn: Any) -> tuple[Any, Any]:
    """Products v_i * v_j and which of them exist: of all pairs, or of those drawn."""
    pairs = None if present is None else present_pairs(present)
    if drawn is None:
        return pairwise_products(vectors), pairs
    # A product with a 0/1 matrix: the gradient of a gather along the fields is a slow scatter.
    first, second = (
        ops.one_hot(ops.take(fields, drawn), vectors.shape[1], dtype=vectors.dtype)
        for fields in pair_indices(vectors.shape[1])
    )
    interactions = ops.matmul(first, vectors) * ops.matmul(second, vectors)
    return interactions, None if pairs is None else ops.take(pairs, drawn, axis=1)
