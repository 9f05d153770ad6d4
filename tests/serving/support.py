"""A small model and transform with the interfaces `serving.export` asks for."""

import functools
import itertools
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import ops

COLUMNS = [
    {"name": "user", "dtype": "string"},
    {"name": "age", "dtype": "float32"},
    {"name": "item", "dtype": "string"},
    {"name": "item class", "dtype": "string"},  # not a Python identifier, on purpose
    {"name": "price", "dtype": "float32"},
]
FIELDS = [column["name"] for column in COLUMNS]
USERS = [f"u{i}" for i in range(8)]
ITEMS = [f"i{i}" for i in range(20)]
CLASSES = ["new", "old", "ümläut"]


class Transform(tf.Module):
    """Lookup tables and log(1 + x): special ids 0..F-1 first, then the tokens `field=value`.

    As the contract asks, columns may have length 1 and are repeated after the lookup.
    """

    def __init__(self, columns=COLUMNS):
        super().__init__()
        self.columns = columns
        tokens = [f"user={u}" for u in USERS] + [f"item={i}" for i in ITEMS]
        tokens += [f"item class={c}" for c in CLASSES]
        tokens += [f"{c['name']}=" for c in columns if c["dtype"] == "string"]
        self.num_features = len(columns) + len(tokens)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tokens, tf.range(len(columns), self.num_features, dtype=tf.int64)
            ),
            default_value=-1,
        )

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids, values = [], []
        for special, column in enumerate(self.columns):
            cells = raw[column["name"]]
            if column["dtype"] == "string":
                found = self.table.lookup(tf.strings.join([f"{column['name']}=", cells]))
                ids.append(tf.where(found < 0, tf.constant(special, tf.int64), found))
                values.append(tf.ones_like(found, tf.float32))
            else:
                ids.append(tf.fill(tf.shape(cells), tf.constant(special, tf.int64)))
                known = tf.where(tf.math.is_nan(cells), 0.0, cells)
                values.append(tf.math.log1p(tf.maximum(known, 0.0)))
        shape = functools.reduce(tf.broadcast_dynamic_shape, [tf.shape(part) for part in ids])
        return {
            "ids": tf.stack([tf.broadcast_to(part, shape) for part in ids], 1),
            "values": tf.stack([tf.broadcast_to(part, shape) for part in values], 1),
        }


class PairModel(keras.Model):
    """bias + sum_i x_i w_i + sum_{i<j} x_i x_j <v_i, v_j>, with its explanation."""

    def __init__(self, num_features: int, dimension: int = 4):
        super().__init__()
        draw = keras.initializers.RandomNormal(0.0, 0.5, seed=3)
        self.linear = keras.layers.Embedding(num_features, 1, embeddings_initializer=draw)
        self.factors = keras.layers.Embedding(num_features, dimension, embeddings_initializer=draw)
        self.bias = self.add_weight(shape=(), initializer=keras.initializers.Constant(-0.25))

    def call(self, inputs, training=False):
        parts = self.explain(inputs)
        return parts["logit"]

    def explain(self, inputs):
        x = inputs["values"]
        first = ops.squeeze(self.linear(inputs["ids"]), -1) * x
        v = self.factors(inputs["ids"]) * ops.expand_dims(x, -1)
        pairs = ops.matmul(v, ops.swapaxes(v, 1, 2)) * (1.0 - ops.eye(v.shape[1])) / 2.0
        logit = self.bias + ops.sum(first, 1) + ops.sum(pairs, (1, 2))
        bias = ops.broadcast_to(self.bias, ops.shape(logit))
        return {
            "logit": ops.expand_dims(logit, 1),
            "bias": ops.expand_dims(bias, 1),
            "first_order": first,
            "order_2_weights": ops.ones_like(pairs) * (1.0 - ops.eye(v.shape[1])),
            "order_2_contributions": pairs,
        }


def make_rows(size: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw rows with missing and unseen values among them."""
    draw = np.random.default_rng(seed)
    ages = draw.integers(15, 80, size).astype(np.float32)
    ages[1::9] = np.nan
    items = draw.choice([*ITEMS, "never seen", ""], size)
    return {
        "user": np.array([u.encode() for u in draw.choice([*USERS, "stranger", ""], size)], object),
        "age": ages,
        "item": np.array([i.encode() for i in items], object),
        "item class": np.array(
            [c.encode() for c in itertools.islice(itertools.cycle([*CLASSES, ""]), size)], object
        ),
        "price": draw.gamma(2.0, 10.0, size).astype(np.float32),
    }


def make_model() -> tuple[PairModel, Transform]:
    """An untrained but not trivial model, built, and its transform."""
    transform = Transform()
    model = PairModel(transform.num_features)
    model(keras_inputs(transform, make_rows(2)))
    return model, transform


def keras_inputs(transform: Transform, rows: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return transform({name: tf.constant(values) for name, values in rows.items()})


def keras_probabilities(model, transform, rows) -> np.ndarray:
    """What the model says in Keras: the truth of these tests."""
    logits = np.asarray(model(keras_inputs(transform, rows)), np.float64).reshape(-1)
    return 1.0 / (1.0 + np.exp(-logits))
