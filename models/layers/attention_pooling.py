"""AFM's attention-based pooling over pair-wise interactions."""

from typing import Any

import keras
from keras import ops

from models.layers.dropout import Dropout
from models.layers.masked_softmax import masked_softmax
from models.layers.relu_scores import relu_scores


@keras.saving.register_keras_serializable(package="ctr")
class AttentionPooling(keras.layers.Layer):
    """Weighs the pairs' interaction vectors u_r and sums them (Xiao et al. 2017, eq. 4-5).

        a'_r = h . ReLU(W u_r + b),    a = softmax(a' / tau),    out = sum_r a_r u_r

    The softmax runs over the pairs that exist (readings 2 and 5). Dropout falls on a_r u_r, in
    training (reading 10). Other vectors than those attended to may be pooled.

    Args:
        attention_dim: hidden size T of the attention network.
        dropout: rate on the weighted interactions.
        l2: coefficient of ||W||^2, added to the loss as it is (reading 4).
        temperature: tau; 1 for AFM, larger is flatter (Hong et al. 2019, eq. 5; reading 11).
        activation: of the attention network (reading 15).
        use_bias: whether b exists; InterHAt has none (reading 39).

    Raises:
        ValueError: `attention_dim` below 1 or a temperature that is not positive.
    """

    def __init__(
        self,
        attention_dim: int,
        dropout: float = 0.0,
        l2: float = 0.0,
        temperature: float = 1.0,
        activation: str = "relu",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if attention_dim < 1:
            raise ValueError(f"attention_dim must be at least 1, got {attention_dim}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.attention_dim = attention_dim
        self.dropout = dropout
        self.l2 = l2
        self.temperature = temperature
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.drop = Dropout(dropout, dtype=self.dtype_policy)
        self.hidden = keras.layers.Dense(
            attention_dim,
            activation=self.activation,
            use_bias=use_bias,
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            dtype=self.dtype_policy,
            name="hidden",
        )
        self.score = keras.layers.Dense(1, use_bias=False, dtype=self.dtype_policy, name="score")

    def build(self, input_shape: tuple[int | None, ...], *_: Any) -> None:
        self.hidden.build(input_shape)
        self.score.build((*input_shape[:-1], self.attention_dim))
        self.built = True

    def attention(self, interactions: Any, present: Any = None, log_counts: Any = None) -> Any:
        """The weights a_r: (B, R, D) and bool (B, R) to (B, R).

        Pair r counts exp(log_counts_r) times in the softmax, (R,); once without them.
        """
        scores = ops.squeeze(self._scores(interactions), axis=-1) / self.temperature
        if log_counts is not None:
            scores = scores + ops.cast(log_counts, scores.dtype)
        return masked_softmax(scores, present)

    def _scores(self, interactions: Any) -> Any:
        """a'_r before the softmax, (B, R, 1); for ReLU by the rule that passes over it least."""
        if self.activation is not keras.activations.relu or not self.use_bias:
            return self.score(self.hidden(interactions))
        weights = (self.hidden.kernel, self.hidden.bias, self.score.kernel)
        kernel, bias, direction = (ops.cast(weight, self.compute_dtype) for weight in weights)
        num_pairs, dim = interactions.shape[1:]
        flat = ops.reshape(ops.cast(interactions, self.compute_dtype), (-1, dim))
        return ops.reshape(relu_scores(flat, kernel, bias, direction), (-1, num_pairs, 1))

    def call(
        self,
        interactions: Any,
        present: Any = None,
        values: Any = None,
        factors: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Pools interaction vectors (B, R, D), where `present` (B, R) is true, to (B, D).

        With `values` (B, R, D) given, they are summed in the interactions' place; `factors` (R,)
        are multiplied to the weights.
        """
        weights = self.attention(interactions, present)
        if factors is not None:
            weights = weights * factors
        if values is not None:
            interactions = values
        if self.dropout and training:
            weighted = ops.expand_dims(weights, -1) * interactions
            return ops.sum(self.drop(weighted, training=training), axis=1)
        return ops.squeeze(ops.matmul(ops.expand_dims(weights, 1), interactions), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "attention_dim": self.attention_dim,
            "dropout": self.dropout,
            "l2": self.l2,
            "temperature": self.temperature,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }
