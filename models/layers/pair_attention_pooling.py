"""AFM's attention-based pooling straight from the fields' vectors."""

from typing import Any

import keras
from keras import ops

from models.layers.attention_pooling import AttentionPooling
from models.layers.masked_softmax import masked_softmax
from models.layers.pair_scores import attend_to_pairs, pair_scores, sum_of_pairs
from models.layers.pairs import pairwise_products


@keras.saving.register_keras_serializable(package="ctr")
class PairAttentionPooling(AttentionPooling):
    """`AttentionPooling` of the products u_ij = v_i * v_j of all pairs of fields.

    The same result with fewer passes over tensors of all pairs, see `pair_scores`. Dropout in
    training needs the products themselves, and takes the way of `AttentionPooling`.
    """

    def call(self, vectors: Any, present: Any, training: bool | None = None) -> Any:
        """Maps vectors (B, F, D) and the pairs that exist, bool (B, R), to (B, D)."""
        fast = self.activation is keras.activations.relu and self.use_bias
        if not fast or (self.dropout and training):
            return super().call(pairwise_products(vectors), present=present, training=training)
        vectors, present = ops.cast(vectors, self.compute_dtype), ops.transpose(present)
        weights = (self.hidden.kernel, self.hidden.bias, self.score.kernel / self.temperature)
        weights = tuple(ops.cast(weight, self.compute_dtype) for weight in weights)
        if training:
            by_field = ops.transpose(vectors, (1, 0, 2))
            return attend_to_pairs(by_field, ops.cast(present, self.compute_dtype), *weights)
        attention = masked_softmax(pair_scores(vectors, *weights), present, axis=0)
        return sum_of_pairs(vectors, attention)
