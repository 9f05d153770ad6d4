"""DA-HoFM's attentional pooling of the fields."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ctr")
class AttentionalSum(keras.layers.Layer):
    """Pools the fields' representations by attention (DA-HoFM, eq. 7-8).

        b'_j = v_j . W_r + b_r,    b = softmax(b'),    out = sum_j b_j v_j

    No temperature (reading 18). b_r cancels in the softmax (reading 25).

    Args:
        entropy: coefficient of the attention's entropy, mean over the batch and not divided by
            F, added to the loss in training (eq. 11; reading 21).
        l2: coefficient of ||W_r||^2.
    """

    def __init__(self, entropy: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entropy = entropy
        self.l2 = l2

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], 1),
            initializer="glorot_uniform",
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
        )
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")
        self.built = True

    def _scores(self, vectors: Any) -> Any:
        return ops.squeeze(ops.matmul(vectors, self.kernel), axis=-1) + self.bias

    def attention(self, vectors: Any) -> Any:
        """The weights b_j: (B, F, D) to (B, F)."""
        return ops.softmax(self._scores(vectors), axis=-1)

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps (B, F, D) to (B, D)."""
        scores = self._scores(vectors)
        weights = ops.softmax(scores, axis=-1)
        if training and self.entropy:
            # Of log b_j = b'_j - log sum_k exp(b'_k): a weight that has underflowed counts 0.
            entropy = ops.logsumexp(scores, axis=-1) - ops.sum(weights * scores, axis=-1)
            self.add_loss(self.entropy * ops.mean(ops.cast(entropy, "float32")))
        return ops.squeeze(ops.matmul(ops.expand_dims(weights, axis=1), vectors), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "entropy": self.entropy, "l2": self.l2}
