"""Dropout that stays cheap where XLA compiles the network for a CPU."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ctr")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with random numbers as few and as short as it needs, on TensorFlow.

    The numbers are most of the cost. Keras lets TensorFlow choose their generator, by operations
    that derive a key from the seed; XLA fuses those into the mask and derives the key anew for
    every number. Philox by name has no such key, and its words of 32 bits hold two numbers of 16
    each: the rate is kept to 1 in 131,072, and what is left is scaled by what the rounded rate
    asks for, so that the mean is exact.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Zeroes a share `rate` of the inputs in training, and scales the others up."""
        if not training or not self.rate or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training)
        import tensorflow as tf

        threshold = min(round(self.rate * 2**16), 2**16 - 1)
        kept = tf.reshape(self._numbers(tf.size(inputs)), tf.shape(inputs)) >= threshold
        return tf.where(kept, inputs / (1.0 - threshold / 2**16), tf.zeros_like(inputs))

    def _numbers(self, count: Any) -> Any:
        """So many random numbers from 0 to 65,535."""
        import tensorflow as tf

        seed = tf.cast(self.seed_generator.next() % tf.int32.max, "int32")
        words = tf.random.stateless_uniform(
            [(count + 1) // 2], seed, minval=None, maxval=None, dtype="uint32", alg="philox"
        )
        # Halves side by side, not in turn: a word's two numbers lie far apart and XLA can write
        # each half in one sweep.
        halves = tf.concat(
            [words & 0xFFFF, tf.bitwise.right_shift(words, tf.constant(16, "uint32"))], axis=0
        )
        return tf.cast(halves[:count], "int32")
