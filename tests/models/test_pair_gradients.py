"""Gradients written by hand, against automatic differentiation of the definition."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.dot_product_attention import dot_product_attention
from models.layers.field_aware_embedding import field_aware_products
from models.layers.masked_softmax import masked_softmax
from models.layers.pair_maps import fold_pairs, train_maps_of_pairs
from models.layers.pair_metric import pair_metric
from models.layers.pair_scores import attend_to_pairs, pair_scores, sum_of_pairs
from models.layers.pairs import pair_indices, pairwise_products
from models.layers.relu_scores import relu_scores


def normal(shape, seed):
    """The same numbers whatever ran before, which `tf.random.normal` with a seed does not give."""
    return tf.random.stateless_normal(shape, (seed, 0))


def value_and_gradient(function, arguments, upstream):
    """Values of a function, one or a tuple, and the gradients of its arguments, in one list."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    values = value if isinstance(value, tuple) else (value,)
    return [*values, *tape.gradient(value, arguments, upstream)]


def test_pair_products_have_the_gradient_of_their_definition():
    vectors = [normal((3, 5, 4), 0)]
    upstream = normal((3, 10, 4), 1)
    rows, columns = pair_indices(5)

    def plain(v):
        return tf.gather(v, rows, axis=1) * tf.gather(v, columns, axis=1)

    results = [value_and_gradient(f, vectors, upstream) for f in (pairwise_products, plain)]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


# 150 examples are blocks of 128 and of 22, the other shape is a single one.
@pytest.mark.parametrize(("batch", "fields"), [(150, 4), (3, 5)])
def test_the_metric_of_pairs_has_the_gradient_of_its_definition(batch, fields):
    vectors = normal((batch, fields, 4), 0)
    weights = [normal((4, 6), 1), normal((6,), 2), normal((6, 1), 3)]
    upstream = normal((batch, fields, fields), 4)  # not symmetric: both places of a pair count

    def plain(v, kernel, bias, direction):
        products = tf.einsum("bid,bjd->bijd", v, v)
        hidden = tf.nn.relu(tf.einsum("bijd,dt->bijt", products, kernel) + bias)
        return tf.einsum("bijt,t->bij", hidden, direction[:, 0])

    results = [value_and_gradient(f, [vectors, *weights], upstream) for f in (pair_metric, plain)]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_field_aware_products_have_the_gradient_of_their_definition():
    vectors = [normal((3, 5, 4, 2), 0)]
    upstream = normal((3, 10, 2), 1)

    def plain(v):
        # Field i's vector for field k lies at k, or at k - 1 beyond i itself.
        pairs = zip(*pair_indices(5), strict=True)
        return tf.stack([v[:, i, j - 1] * v[:, j, i] for i, j in pairs], axis=1)

    results = [value_and_gradient(f, vectors, upstream) for f in (field_aware_products, plain)]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dropped", [False, True])
def test_attention_has_the_gradient_of_its_definition(dropped):
    queries = normal((3, 10, 4), 0)
    vectors = normal((3, 5, 4), 1)
    upstream = [normal((3, 10, n), n) for n in (4, 1)]
    factors = [2.0 * tf.cast(tf.random.stateless_uniform((3, 10, 5), (3, 0)) > 0.5, "float32")]
    arguments = (queries, vectors, *(factors if dropped else ()))

    def plain(q, x, f=1.0):
        scores = tf.matmul(q, x, transpose_b=True)
        log_total = tf.reduce_logsumexp(scores, axis=-1, keepdims=True)
        return tf.matmul(f * tf.nn.softmax(scores), x), log_total

    results = [value_and_gradient(f, arguments, upstream) for f in (dot_product_attention, plain)]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_relu_scores_have_the_gradient_of_their_definition():
    shapes = ((11, 4), (4, 3), (3,), (3, 1))
    arguments = [normal(shape, i) for i, shape in enumerate(shapes)]
    upstream = normal((11, 1), 9)

    def plain(u, w, b, h):
        return tf.matmul(tf.nn.relu(tf.matmul(u, w) + b), h)

    results = [value_and_gradient(f, arguments, upstream) for f in (relu_scores, plain)]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_scores_and_sums_of_pairs_have_the_gradient_of_their_definition():
    shapes = ((3, 5, 4), (4, 6), (6,), (6, 1))
    arguments = [normal(shape, i) for i, shape in enumerate(shapes)]
    rows, columns = pair_indices(5)

    def ours(v, *attention):
        scores = pair_scores(v, *attention)
        return tf.transpose(scores), sum_of_pairs(v, tf.tanh(scores))

    def plain(v, kernel, bias, direction):
        pairs = tf.gather(v, rows, axis=1) * tf.gather(v, columns, axis=1)
        scores = tf.squeeze(tf.nn.relu(pairs @ kernel + bias) @ direction, -1)
        return scores, tf.reduce_sum(tf.tanh(scores)[..., None] * pairs, axis=1)

    upstream = [normal((3, 10), 8), normal((3, 4), 9)]
    results = [value_and_gradient(f, arguments, upstream) for f in (ours, plain)]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [3, 64, 150])
@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_attention_in_blocks_has_the_value_and_gradient_of_its_definition(batch, how):
    # 64 examples are one block, 150 two and a part of a third.
    shapes = ((batch, 5, 4), (4, 6), (6,), (6, 1))
    arguments = [normal(shape, i) for i, shape in enumerate(shapes)]
    present = tf.random.stateless_uniform((batch, 10), (7, 0)) > 0.3
    upstream = normal((batch, 4), 9)
    rows, columns = pair_indices(5)

    def ours(v, *attention):
        mask = tf.transpose(tf.cast(present, tf.float32))
        return attend_to_pairs(tf.transpose(v, (1, 0, 2)), mask, *attention)

    def plain(v, kernel, bias, direction):
        pairs = tf.gather(v, rows, axis=1) * tf.gather(v, columns, axis=1)
        scores = tf.squeeze(tf.nn.relu(pairs @ kernel + bias) @ direction, -1)
        return tf.reduce_sum(masked_softmax(scores, present)[..., None] * pairs, axis=1)

    def results(function):
        return value_and_gradient(function, arguments, upstream)

    found = results if how == "eager" else tf.function(results, jit_compile=how == "xla")
    for got, want in zip(found(ours), results(plain), strict=True):
        largest = np.abs(want).max()  # of sums over the batch, whose terms cancel
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * max(1, largest))


@pytest.mark.parametrize("batch", [3, 150])
@pytest.mark.parametrize("how", ["graph", "xla"])
def test_maps_of_pairs_have_the_value_and_gradient_of_their_definition(batch, how):
    arguments = [normal((batch, 5, 4), 0), normal((25, 3), 1)]
    upstream = normal((batch, 4, 3), 2)

    def plain(v, w):
        return tf.einsum("bid,bjd,ijh->bdh", v, v, tf.reshape(w, (5, 5, 3)))

    def ours(v, w):
        return train_maps_of_pairs(tf.transpose(v, (1, 0, 2)), fold_pairs(w, 5))

    def results(function):
        return value_and_gradient(function, arguments, upstream)

    found = tf.function(results, jit_compile=how == "xla")
    for got, want in zip(found(ours), results(plain), strict=True):
        largest = np.abs(want).max()  # of sums over the batch, whose terms cancel
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * max(1, largest))
