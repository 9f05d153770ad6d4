"""Logistic regression by hand."""

import numpy as np

import models
from models import Features, Field


def test_by_hand():
    model = models.build("lr", Features(3, (Field("a"), Field("b", 2))))
    model.first_order.weight.table.assign([[1.0], [10.0], [100.0]])
    model.first_order.bias.assign([0.25])
    inputs = {"ids": np.array([[0, 1, 2]]), "values": np.array([[2.0, 0.5, 0.5]], "float32")}
    np.testing.assert_allclose(model(inputs), [[57.25]])
    explanation = model.explain(inputs)
    np.testing.assert_allclose(explanation["first_order"], [[2.0, 55.0]])
    np.testing.assert_allclose(explanation["bias"], [[0.25]])
