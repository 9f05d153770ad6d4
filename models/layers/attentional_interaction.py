"""DA-HoFM's attentional interaction layer."""

from typing import Any

import keras
from keras import ops

from models.layers.dot_product_attention import dot_product_attention


@keras.saving.register_keras_serializable(package="ctr")
class AttentionalInteraction(keras.layers.Layer):
    """Raises each field's representation by one order (DA-HoFM, eq. 3-6).

        a'_ij = (v_i * u_j) . W_a + b_a,    a_i = softmax(a'_i / tau),
        out_i = sum_j a_ij (v_i * u_j)

    v is the representation of the order reached so far, u the fields' embeddings; j runs over all
    fields, i included (reading 19), and the temperature belongs to this softmax alone (reading
    18). Nothing of shape (B, F, F, D) is built: a' = (V diag(W_a)) U^T + b_a and out = V * (a U).
    b_a cancels in the softmax (reading 25).

    Args:
        temperature: tau; smaller is sharper.
        entropy: coefficient of the attention's entropy, mean over the batch and over i, added to
            the loss in training (eq. 11; reading 21).
        l2: coefficient of ||W_a||^2.

    Raises:
        ValueError: a temperature that is not positive.
    """

    def __init__(
        self, temperature: float = 1.0, entropy: float = 0.0, l2: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature
        self.entropy = entropy
        self.l2 = l2

    def build(
        self, vectors_shape: tuple[int | None, ...], base_shape: tuple[int | None, ...]
    ) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(base_shape[-1], 1),
            initializer="glorot_uniform",
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
        )
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")
        self.built = True

    def _queries(self, vectors: Any) -> Any:
        """v diag(W_a) / tau, whose products with the embeddings are the scores without b_a."""
        # Cast here, not by Keras: `attention` is also called outside of the layer's `__call__`.
        kernel = ops.cast(ops.squeeze(self.kernel, axis=-1), vectors.dtype)
        # An optimizer wants b_a's gradient, which is 0.
        return vectors * (kernel / self.temperature + 0.0 * ops.cast(self.bias, vectors.dtype))

    def attention(self, vectors: Any, base: Any) -> Any:
        """The weights a_ij, (B, F, F), of two tensors (B, F, D)."""
        scores = ops.matmul(self._queries(vectors), ops.swapaxes(base, 1, 2))
        return ops.softmax(scores, axis=-1)

    def call(self, vectors: Any, base: Any, training: bool | None = None) -> Any:
        """Maps v (B, F, D) and the embeddings u (B, F, D) to the next order, (B, F, D)."""
        queries = self._queries(vectors)
        gathered, log_total = dot_product_attention(queries, base)
        if training and self.entropy:
            entropy = ops.squeeze(log_total, axis=-1) - ops.sum(queries * gathered, axis=-1)
            self.add_loss(self.entropy * ops.mean(ops.cast(entropy, "float32")))
        return vectors * gathered

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "entropy": self.entropy,
            "l2": self.l2,
        }
