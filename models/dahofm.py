"""Dual Attentional Higher Order Factorization Machine and its ablations."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.attentional_interaction import AttentionalInteraction
from models.layers.attentional_sum import AttentionalSum
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.flatten_fields import flatten_fields
from models.layers.mlp import MLP
from models.zoo import register

_PAPER = "Dual Attentional Higher Order Factorization Machines, 2021"
_ORDER = "2 to L + 1 and implicit"


@register(
    "da-hofm",
    paper=_PAPER,
    order=_ORDER,
    use="strong default on many fields: every order explicit at linear cost, with a deep part",
)
@register(
    "sa-hofm",
    paper=_PAPER,
    order=_ORDER,
    use="ablation: fields are summed instead of pooled by attention",
    attentional_pooling=False,
)
@register(
    "da-hofm-lin",
    paper=_PAPER,
    order="1 to L + 1",
    use="ablation without the network: additive, every order of every pair explained",
    hidden_units=(),
)
@register(
    "da-hofm-ns",
    paper=_PAPER,
    order=_ORDER,
    use="ablation: attention is not pushed to be sparse",
    entropy=0.0,
)
@keras.saving.register_keras_serializable(package="ctr")
class DAHoFM(CTRModel):
    """y = [z^(0), z^(1), ..., z^(L)] . W_f + b_f   (DA-HoFM, eq. 9).

    v^(0) are the embeddings; each of the L attentional interaction layers makes v^(l) of v^(l-1)
    and v^(0) (eq. 3-6), and z^(l) is its attentional pooling (eq. 7-8): order l + 1 (readings 18
    to 20). z^(0) is a network of the concatenated embeddings that ends in a linear layer of
    size D (reading 22); without hidden layers it is that layer alone, the paper's DA-HoFM-lin
    (reading 23). No first-order part, no mask (readings 2 and 3).

    In training the loss gains lambda_2 (L_ent(a) + L_ent(b)) / L, summed over the layers (eq.
    10-11; reading 21); the paper leaves lambda_2 open, 1e-3 is ours, and 0 makes DA-HoFM-NS
    (reading 24). `l2` is lambda_1 on the dense kernels: the embedding table's share belongs to
    the optimizer, row by row (reading 26).

    The explanation splits every explicit order exactly: order_(l+1)_contributions[i, j] is what
    field i's v^(l-1) times field j's embedding adds to the logit. The rest of the logit is the
    network's; in DA-HoFM-lin it is a first-order term per field and a bias.

    Args:
        features: layout of the instance.
        embedding_dim: size D of v and of every z.
        num_layers: L, at least 1.
        temperature: tau of the interaction attention.
        entropy: lambda_2.
        attentional_pooling: False sums the fields instead (SA-HoFM; reading 24).
        hidden_units: sizes of the network's hidden layers.
        batch_norm: in the hidden layers.
        dropout: rate in the hidden layers, in training.
        l2: lambda_1.

    Raises:
        ValueError: `num_layers` below 1.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 2,
        temperature: float = 0.8,
        entropy: float = 1e-3,
        attentional_pooling: bool = True,
        hidden_units: Sequence[int] = (512, 512),
        batch_norm: bool = True,
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.temperature = temperature
        self.entropy = entropy
        self.attentional_pooling = attentional_pooling
        self.hidden_units = list(hidden_units)
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.l2 = l2
        policy = self.dtype_policy
        share = entropy / num_layers
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.interactions = [
            AttentionalInteraction(temperature, share, l2, dtype=policy) for _ in range(num_layers)
        ]
        self.poolings = [
            AttentionalSum(share, l2, dtype=policy)
            for _ in range(num_layers if attentional_pooling else 0)
        ]
        self.network = MLP(
            self.hidden_units,
            batch_norm=batch_norm,
            dropout=dropout,
            l2=l2,
            output_dim=embedding_dim,
            dtype=policy,
        )
        self.projection = keras.layers.Dense(
            1,
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            dtype=policy,
            name="projection",
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        base = self.embedding(inputs)
        pooled = [self.network(flatten_fields(base), training=training)]
        vectors = base
        for layer, interaction in enumerate(self.interactions):
            vectors = interaction(vectors, base, training=training)
            pooled.append(
                self.poolings[layer](vectors, training=training)
                if self.attentional_pooling
                else ops.sum(vectors, axis=1)
            )
        return ops.cast(self.projection(ops.concatenate(pooled, axis=-1)), "float32")

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        base = self.embedding(inputs)
        transposed = ops.swapaxes(base, 1, 2)
        kernel = ops.cast(self.projection.kernel, base.dtype)
        outputs = ops.reshape(kernel, (self.num_layers + 1, self.embedding_dim))
        parts = {} if self.hidden_units else self._linear_part(base, outputs[0])
        vectors = base
        for layer, interaction in enumerate(self.interactions):
            weights = interaction.attention(vectors, base)
            shares = weights * ops.matmul(vectors * outputs[layer + 1], transposed)
            vectors = vectors * ops.matmul(weights, base)
            if self.attentional_pooling:
                pooling = ops.cast(self.poolings[layer].attention(vectors), base.dtype)
                shares = shares * ops.expand_dims(pooling, -1)
            parts[f"order_{layer + 2}_weights"] = weights
            parts[f"order_{layer + 2}_contributions"] = shares
        return self.explanation(inputs, **parts)

    def _linear_part(self, base: Any, output: Any) -> dict[str, Any]:
        """Without hidden layers z^(0) . w is linear in each field's embedding, plus constants."""
        linear = self.network.steps[-1]
        by_field = ops.reshape(
            ops.matmul(ops.cast(linear.kernel, base.dtype), ops.expand_dims(output, -1)),
            (self.features.num_fields, self.embedding_dim),
        )
        first_order = ops.sum(base * by_field, axis=-1)
        constant = ops.sum(ops.cast(linear.bias, base.dtype) * output)
        bias = ops.cast(constant, "float32") + self.projection.bias
        return {
            "bias": ops.cast(ops.zeros_like(first_order[:, :1]), "float32") + bias,
            "first_order": first_order,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "temperature": self.temperature,
            "entropy": self.entropy,
            "attentional_pooling": self.attentional_pooling,
            "hidden_units": self.hidden_units,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
            "l2": self.l2,
        }
