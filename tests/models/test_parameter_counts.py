"""Trainable parameters against the counts the public leaderboard's logs give.

Its Frappe has 5,379 values in the training split and one unseen id for each of 10 fields; the
embedding size is 10. Where our form differs, the difference is written as what it comes from.
"""

import math

import pytest

import models
from models import Features, Field
from tests.models.test_fignn import FUXICTR

FRAPPE = Features(5_379 + 10, tuple(Field(f"f{index}") for index in range(10)))
TABLE = 5_389 * 10

# name, arguments, the leaderboard's count, ours less the leaderboard's
COUNTS = [
    ("lr", {}, 5_390, 0),
    ("fm", {}, 59_280, 0),
    ("afm", {"attention_dim": 128}, 60_826, 0),
    ("hofm", {"max_order": 3}, 113_170, 0),
    ("ffm", {}, 490_400, 0),
    # Its linear part has a vector in each feature's place, whose table is as large as the FM's.
    ("fwfm", {}, 107_826, 5_389 - TABLE),
    ("nfm", {}, 384_880, 0),
    ("deepfm", {"batch_norm": True}, 423_280, 0),
    ("wide-deep", {"batch_norm": True}, 423_280, 0),
    ("dcn", {"batch_norm": True}, 418_591, 0),
    ("dcnv2", {"batch_norm": True, "num_layers": 4}, 458_391, 0),
    # Its CIN has a bias per map and one more on the sum; the paper's has none.
    ("xdeepfm", {"batch_norm": True, "cin_units": [64]}, 429_809, -64 - 1),
    ("fignn", {"num_layers": 17, **FUXICTR}, 89_090, 0),
    ("afn", {"log_neurons": 1_000, "hidden_units": [400]}, 4_066_711, 0),
    ("afn+", {"log_neurons": 1_000, "hidden_units": [400]}, 4_482_205, 0),
]


@pytest.mark.parametrize(("name", "arguments", "published", "difference"), COUNTS)
def test_counts_of_the_leaderboard(name, arguments, published, difference):
    model = models.build(name, FRAPPE, **_embedding(name), **arguments)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == (
        published + difference
    )


def _embedding(name):
    return {} if name == "lr" else {"embedding_dim": 10}
