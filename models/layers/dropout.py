"""Dropout that stays cheap where XLA compiles the network for a CPU."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ctr")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with the generator named on the TensorFlow backend.

    Keras lets TensorFlow choose it, by operations that derive a key from the seed. XLA fuses those
    into the mask and derives the key anew for every number: 600 ns each where Philox by name takes
    15 (4096 x 45 x 10 numbers, two cores), more than all the rest of a training step.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Zeroes a share `rate` of the inputs in training, and scales the others up."""
        if not training or not self.rate or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training)
        import tensorflow as tf

        seed = tf.cast(self.seed_generator.next() % tf.int32.max, "int32")
        numbers = tf.random.stateless_uniform(tf.shape(inputs), seed, alg="philox")
        return tf.where(numbers >= self.rate, inputs / (1.0 - self.rate), tf.zeros_like(inputs))
