import keras
import numpy as np
import pytest

import models
from models import Features
from pipeline.errors import PipelineError
from pipeline.transfer import copy_between

OLD_TOKENS = ["user", "item", "user=a", "user=b", "item=x", "item=y"]
NEW_TOKENS = ["item", "city", "user", "item=y", "user=c", "user=b", "city=z"]


def features(*names, size):
    fields = [{"name": name, "start": i, "stop": i + 1} for i, name in enumerate(names)]
    return Features.from_fields(size, fields)


def table(layer):
    return keras.ops.convert_to_numpy(layer.table.value)


def test_rows_go_by_token_whatever_their_number():
    keras.utils.set_random_seed(0)
    old = models.build("fm", features("user", "item", size=6), embedding_dim=3)
    old.first_order.weight.table.assign(np.arange(6.0)[:, None])
    old.first_order.bias.assign([0.7])
    new = models.build("afm", features("item", "city", "user", size=7), embedding_dim=3)
    before = table(new.embedding).copy()
    told = copy_between(old, OLD_TOKENS, new, NEW_TOKENS)
    assert "4 of 7 features" in told
    for row, token in enumerate(NEW_TOKENS):
        if token in OLD_TOKENS:
            expected = table(old.embedding)[OLD_TOKENS.index(token)]
            assert table(new.first_order.weight)[row, 0] == OLD_TOKENS.index(token)
        else:
            expected = before[row]
            assert table(new.first_order.weight)[row, 0] == 0
        np.testing.assert_array_equal(table(new.embedding)[row], expected)
    assert float(new.first_order.bias[0]) == pytest.approx(0.7)


def test_field_aware_vectors_go_by_the_other_field_too():
    keras.utils.set_random_seed(0)
    old = models.build("ffm", features("user", "item", size=6), embedding_dim=2)
    new = models.build("ffm", features("item", "city", "user", size=7), embedding_dim=2)
    before = table(new.embedding).copy()
    copy_between(old, OLD_TOKENS, new, NEW_TOKENS)
    after = table(new.embedding)
    # user=b: its vectors are for (item, city) now, and were for (item) alone.
    np.testing.assert_array_equal(after[5, :2], table(old.embedding)[3])
    np.testing.assert_array_equal(after[5, 2:], before[5, 2:])
    # item=y: for (city, user) now, for (user) alone before.
    np.testing.assert_array_equal(after[3, 2:], table(old.embedding)[5])
    np.testing.assert_array_equal(after[3, :2], before[3, :2])


@pytest.mark.parametrize(
    ("name", "arguments", "tokens", "part"),
    [
        ("fm", {"embedding_dim": 5}, OLD_TOKENS, "dimension 3 do not fit a model of dimension 5"),
        ("ffm", {"embedding_dim": 3}, OLD_TOKENS, "field-aware"),
        ("fm", {"embedding_dim": 3}, list("abcdef"), "no feature in common"),
    ],
)
def test_what_does_not_fit_is_said(name, arguments, tokens, part):
    old = models.build("fm", features("user", "item", size=6), embedding_dim=3)
    new = models.build(name, features("user", "item", size=6), **arguments)
    with pytest.raises(PipelineError, match=part):
        copy_between(old, OLD_TOKENS, new, tokens)
