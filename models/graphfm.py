"""Graph Factorization Machine and its ablations."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.interaction_aggregation import InteractionAggregation
from models.layers.interaction_selection import InteractionSelection
from models.layers.program_aggregation import ProgramAggregation
from models.zoo import register

_PAPER = "Wu et al., arXiv 2105.11866, 2021"
_ORDER = "2 to L + 1"


@register(
    "graphfm",
    paper=_PAPER,
    order=_ORDER,
    use="many noisy fields: each row keeps only its beneficial interactions, and shows them",
)
@register(
    "graphfm-s",
    paper=_PAPER,
    order=_ORDER,
    use="ablation without selection: all fields are neighbours",
    select=False,
)
@register(
    "graphfm-i",
    paper=_PAPER,
    order=_ORDER,
    use="ablation without interactions: aggregates the neighbours themselves",
    interact=False,
)
@register(
    "graphfm-m",
    paper=_PAPER,
    order=_ORDER,
    use="ablation with one attention head",
    num_heads=1,
)
@keras.saving.register_keras_serializable(package="ctr")
class GraphFM(CTRModel):
    """y = p . (1 / n) sum_i [e_i^(1) || ... || e_i^(K)]   (GraphFM, eq. 15-17).

    Layer k selects m_k neighbours of each field (eq. 7-9) and aggregates the interactions with
    them into e^(k) (eq. 10-13); both factors are the output of the layer before (reading 33). K
    layers are K selections and K outputs, the raw embeddings not among them (reading 27).
    No residual, layer norm, first order or bias (reading 35), no mask (reading 2).

    `authors_program=True` computes what the authors' program does instead: interactions not
    selected keep a share of the softmax, p multiplies the attention score, every target field has
    weights of its own, ties keep more than m_k, and there are residuals, layer norms and a bias
    (readings 31, 32 and 35).

    The explanation's weights are alpha p, the mean of the heads. The paper's form is a sum over
    interactions (ReLU passes a sum or stops it), so the contributions of all orders add up to the
    logit.

    Args:
        features: layout of the instance.
        embedding_dim: size D of e.
        num_layers: K, at least 1.
        units: width of each layer, all heads together.
        num_heads: H.
        neighbours: m_1..m_K; by default all fields, then a half, an eighth, ... (rounded up, at
            least 2), which gives the paper's [39, 20, 5] on its 39 fields.
        metric_units: hidden size of the metric function.
        select: False for GraphFM(-S): all neighbours, p = 1 (reading 34).
        interact: False for GraphFM(-I) (reading 34).
        dropout: rate on the attention weights, in training.
        authors_program: the program's form.

    Raises:
        ValueError: `num_layers` below 1, neighbours that are not one number from 1 to F for each
            layer, `units` not a multiple of `num_heads`, or an ablation of the program's form.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        units: int = 64,
        num_heads: int = 2,
        neighbours: Sequence[int] | None = None,
        metric_units: int = 16,
        select: bool = True,
        interact: bool = True,
        dropout: float = 0.0,
        authors_program: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if authors_program and not (select and interact):
            raise ValueError(
                "authors_program has no ablations; it needs select and interact, got "
                f"select={select} and interact={interact}"
            )
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.units = units
        self.num_heads = num_heads
        self.neighbours = neighbourhoods(self.features.num_fields, num_layers, neighbours)
        self.metric_units = metric_units
        self.select = select
        self.interact = interact
        self.dropout = dropout
        self.authors_program = authors_program
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.selections = [
            InteractionSelection(count, metric_units, authors_program, dtype=policy)
            for count in (self.neighbours if select else [])
        ]
        self.aggregations = [
            ProgramAggregation(units, num_heads, dropout, dtype=policy)
            if authors_program
            else InteractionAggregation(units, num_heads, interact, dropout, dtype=policy)
            for _ in range(num_layers)
        ]
        self.projection = keras.layers.Dense(
            1, use_bias=authors_program, dtype=policy, name="projection"
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        vectors = self.embedding(inputs)
        pooled = []
        for layer, aggregation in enumerate(self.aggregations):
            graph = self._graph(layer, vectors, training)
            vectors = aggregation(vectors, *graph, training=training)
            pooled.append(ops.mean(vectors, axis=1))
        return ops.cast(self.projection(ops.concatenate(pooled, axis=-1)), "float32")

    def _graph(self, layer: int, vectors: Any, training: bool | None = None) -> tuple[Any, ...]:
        """What a layer's aggregation takes beside the vectors: p, and which edges are kept."""
        if not self.select:
            return ()
        edges, kept = self.selections[layer](vectors, training=training)
        return (edges,) if self.authors_program else (edges, kept)

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        vectors = self.embedding(inputs)
        outputs = ops.reshape(self.projection.kernel, (self.num_layers, self.units))
        parts = {}
        for layer, aggregation in enumerate(self.aggregations):
            graph = self._graph(layer, vectors)
            weights = ops.mean(aggregation.weights_by_head(vectors, *graph), axis=1)
            parts[f"order_{layer + 2}_weights"] = weights
            if not self.authors_program:
                output = outputs[layer] / self.features.num_fields
                parts[f"order_{layer + 2}_contributions"] = aggregation.contributions(
                    vectors, output, *graph
                )
            vectors = aggregation(vectors, *graph, training=False)
        return self.explanation(inputs, **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "units": self.units,
            "num_heads": self.num_heads,
            "neighbours": self.neighbours,
            "metric_units": self.metric_units,
            "select": self.select,
            "interact": self.interact,
            "dropout": self.dropout,
            "authors_program": self.authors_program,
        }


def neighbourhoods(
    num_fields: int, num_layers: int, neighbours: Sequence[int] | None = None
) -> list[int]:
    """m_1..m_K, checked, or the default for any number of fields.

    Raises:
        ValueError: see `GraphFM`.
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    if neighbours is None:
        divisors = [1, *(2 ** (2 * layer - 1) for layer in range(1, num_layers))]
        return [max(min(2, num_fields), -(-num_fields // divisor)) for divisor in divisors]
    if len(neighbours) != num_layers or not all(1 <= m <= num_fields for m in neighbours):
        raise ValueError(
            f"neighbours must be {num_layers} numbers from 1 to {num_fields}, one for each layer, "
            f"got {list(neighbours)}"
        )
    return list(neighbours)
