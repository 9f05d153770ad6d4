"""Rows scored in parts: the answers of the whole, for any number of rows."""

import numpy as np
import pytest
import tensorflow as tf

from serving.row_parts import PARTS, logits_in_parts


def model(inputs, training):
    """A logit that depends on its row alone; (B, 1) as a Keras model gives it."""
    assert not training
    total = tf.reduce_sum(tf.cast(inputs["ids"], tf.float32) * inputs["values"], axis=1)
    return tf.math.sin(total)[:, None]


@pytest.mark.parametrize("parts", [1, PARTS, 3])
@pytest.mark.parametrize("rows", [0, 1, 2, 7])
def test_answers_and_order_are_those_of_the_whole(rows, parts):
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 100, (rows, 4))
    values = draw.random((rows, 4), dtype="float32")
    specs = [tf.TensorSpec([None, 4], tf.int64), tf.TensorSpec([None, 4], tf.float32)]
    call = tf.function(
        lambda i, v: logits_in_parts(model, {"ids": i, "values": v}, parts), input_signature=specs
    )
    np.testing.assert_allclose(call(ids, values), np.sin((ids * values).sum(1)), atol=1e-5)


def test_the_graph_holds_the_model_once_for_each_part():
    seen = []

    def recorded(inputs, training):
        seen.append(inputs)
        return model(inputs, training)

    specs = [tf.TensorSpec([None, 4], tf.int64), tf.TensorSpec([None, 4], tf.float32)]
    tf.function(
        lambda i, v: logits_in_parts(recorded, {"ids": i, "values": v}), input_signature=specs
    ).get_concrete_function()
    assert len(seen) == PARTS
