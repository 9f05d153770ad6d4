"""HOFM against lists of combinations, and the ANOVA kernel."""

from itertools import combinations
from math import prod

import numpy as np
import pytest
import tensorflow as tf

import models
from models.layers.anova_kernel import AnovaKernel, pair_shares
from models.layers.fm_interaction import gram_contributions
from tests.models.test_fm import pooled_twin
from tests.support import model_checks
from tests.support.layer_checks import (
    assert_gradient_matches_differences,
    check_layer,
    toy_features,
    toy_inputs,
)


def anova_twin(vectors, order):
    """The product of every set of `order` fields, added up one by one."""
    fields = vectors.shape[1]
    total = np.zeros((len(vectors), vectors.shape[2]))
    for chosen in combinations(range(fields), order):
        total += prod(vectors[:, i] for i in chosen)
    return total


def shares_twin(vectors, order):
    """Each set's product in equal shares at all ordered pairs of the set."""
    fields = vectors.shape[1]
    shares = np.zeros((len(vectors), fields, fields))
    for chosen in combinations(range(fields), order):
        product = prod(vectors[:, i] for i in chosen).sum(axis=-1)
        for i in chosen:
            for j in chosen:
                if i != j:
                    shares[:, i, j] += product / (order * (order - 1))
    return shares


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_kernel_equals_its_twin(order, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
    np.testing.assert_allclose(AnovaKernel(order)(vectors), anova_twin(vectors, order), atol=1e-5)
    if order == 3:
        check_layer(AnovaKernel(order), (vectors,), (3, 4), tmp_path)
        assert_gradient_matches_differences(
            lambda v: tf.reduce_sum(tf.square(AnovaKernel(order)(v))), vectors[:2]
        )


def test_kernel_by_hand():
    vectors = np.array([[[1.0], [2.0], [3.0], [4.0]]], "float32")
    # 1*2*3 + 1*2*4 + 1*3*4 + 2*3*4 = 50; all four: 24; no set of five.
    assert [float(AnovaKernel(order)(vectors)[0, 0]) for order in (3, 4, 5)] == [50, 24, 0]


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_pair_shares_equal_their_twin(order):
    vectors = np.random.default_rng(1).normal(size=(3, 6, 4)).astype("float32")
    shares = np.asarray(pair_shares(vectors, order))
    np.testing.assert_allclose(shares, shares_twin(vectors, order), atol=2e-5)
    if order == 2:
        np.testing.assert_allclose(shares, gram_contributions(vectors)[1], atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_model_equals_its_twin(shared):
    model = model_checks.small_model(
        "hofm", toy_features(), embedding_dim=3, max_order=4, shared_embedding=shared
    )
    inputs = toy_inputs(model.features)
    vectors = pooled_twin(np.asarray(model.embedding.table), inputs, model.features)
    linear = pooled_twin(np.asarray(model.first_order.weight.table), inputs, model.features)
    expected = float(model.first_order.bias[0]) + linear.sum(axis=(1, 2))
    for index, order in enumerate((2, 3, 4)):
        own = vectors if shared else vectors[..., 3 * index : 3 * index + 3]
        expected += anova_twin(own, order).sum(axis=1)
    np.testing.assert_allclose(np.asarray(model(inputs))[:, 0], expected, atol=1e-5)
    model_checks.check_completeness(model)


def test_order_two_is_the_fm():
    fm = model_checks.small_model("fm", toy_features())
    hofm = model_checks.small_model("hofm", toy_features(), max_order=2)
    hofm.set_weights(fm.get_weights())
    inputs = toy_inputs(fm.features)
    np.testing.assert_allclose(hofm(inputs), fm(inputs), atol=1e-6)


def test_rejects_orders_that_do_not_exist():
    with pytest.raises(ValueError, match="max_order must be at least 2, got 1"):
        models.build("hofm", toy_features(), max_order=1)
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        AnovaKernel(0)
