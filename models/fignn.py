"""Feature interaction graph neural network."""

from typing import Any

import keras
from keras import ops

from models.base import CTRModel
from models.features import Features
from models.layers.edge_attention import EdgeAttention
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.field_messages import FieldMessages
from models.layers.flatten_fields import flatten_fields
from models.layers.interacting_layer import InteractingLayer
from models.zoo import register


@register(
    "fignn",
    paper="Li et al., CIKM 2019",
    order="2 to L + 1, by attention",
    use="fields as a graph that passes messages: says which fields each field reads",
)
@keras.saving.register_keras_serializable(package="ctr")
class FiGNN(CTRModel):
    """y = sum_i a_i y_i, with y_i = MLP_1(h_i) and a_i = MLP_2(h_i)   (Fi-GNN, scoring layer).

    h^1 is a multi-head self-attention of the embeddings (scaled, ReLU, no residual). Each step
    gathers the messages of the other fields (`FieldMessages`, over the edge weights of the
    embeddings, `EdgeAttention`) and updates h_i = GRU(h_i, a_i) + h_i^1. The steps share all
    weights. The GRU is Keras's with the reset before the product, the same family as the paper's
    with negated update weights; MLP_1 and MLP_2 are one linear layer each (reading 38). No first
    order, no mask (readings 2 and 3).

    The last five arguments lead to FuxiCTR's form of it, which the public leaderboard ran:
    `self_attention=False, use_gru=False, share_steps=False, read_edges="target",
    all_node_weights=True`.

    The explanation's weights are the edges: how much field i reads from field j, in every step.

    Args:
        features: layout of the instance.
        embedding_dim: size D of e and h.
        num_layers: message steps, at least 1.
        num_heads: of the self-attention; divides D.
        self_attention: False starts from the embeddings.
        use_gru: False adds the messages to the state.
        share_steps: False gives each step matrices of its own.
        read_edges: "source" (letter) or "target"; see `EdgeAttention`.
        all_node_weights: a = sigmoid(MLP_2(all h side by side)), and no biases in either MLP.

    Raises:
        ValueError: `num_layers` below 1, D not a multiple of `num_heads` or a bad `read_edges`.
    """

    def __init__(
        self,
        features: Features,
        embedding_dim: int = 16,
        num_layers: int = 3,
        num_heads: int = 2,
        self_attention: bool = True,
        use_gru: bool = True,
        share_steps: bool = True,
        read_edges: str = "source",
        all_node_weights: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, **kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if self_attention and (num_heads < 1 or embedding_dim % num_heads):
            raise ValueError(
                "embedding_dim must be a multiple of num_heads, "
                f"got {embedding_dim} and {num_heads}"
            )
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.self_attention = self_attention
        self.use_gru = use_gru
        self.share_steps = share_steps
        self.read_edges = read_edges
        self.all_node_weights = all_node_weights
        policy = self.dtype_policy
        self.embedding = FeatureEmbedding(self.features, embedding_dim, dtype=policy)
        self.attention = (
            InteractingLayer(embedding_dim, num_heads, residual=False, scale=True, dtype=policy)
            if self_attention
            else None
        )
        self.edges = EdgeAttention(read_edges, dtype=policy)
        self.messages = [
            FieldMessages(dtype=policy) for _ in range(1 if share_steps else num_layers)
        ]
        self.gru = (
            keras.layers.GRUCell(embedding_dim, reset_after=False, dtype=policy)
            if use_gru
            else None
        )
        biased = not all_node_weights
        self.node_score = keras.layers.Dense(1, use_bias=biased, dtype=policy, name="node_score")
        self.node_weight = keras.layers.Dense(
            self.features.num_fields if all_node_weights else 1,
            activation="sigmoid" if all_node_weights else None,
            use_bias=biased,
            dtype=policy,
            name="node_weight",
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        base = self.embedding(inputs)
        graph = self.edges(base)
        start = base if self.attention is None else self.attention(base, training=training)
        states = start
        for step in range(self.num_layers):
            messages = self.messages[0 if self.share_steps else step](graph, states)
            states = self._update(messages, states) + start
        scores = ops.squeeze(self.node_score(states), axis=-1)
        weights = (
            self.node_weight(flatten_fields(states))
            if self.all_node_weights
            else ops.squeeze(self.node_weight(states), axis=-1)
        )
        products = ops.cast(weights, "float32") * ops.cast(scores, "float32")
        return ops.sum(products, axis=-1, keepdims=True)

    def _update(self, messages: Any, states: Any) -> Any:
        """The states after hearing: (B, F, D), every field through the same cell."""
        if self.gru is None:
            return states + messages
        size = self.embedding_dim
        rows, _ = self.gru(ops.reshape(messages, (-1, size)), [ops.reshape(states, (-1, size))])
        return ops.reshape(rows, (-1, self.features.num_fields, size))

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self.explanation(inputs, order_2_weights=self.edges(self.embedding(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "self_attention": self.self_attention,
            "use_gru": self.use_gru,
            "share_steps": self.share_steps,
            "read_edges": self.read_edges,
            "all_node_weights": self.all_node_weights,
        }
