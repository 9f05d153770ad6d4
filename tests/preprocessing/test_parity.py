"""Train/serve skew: the served graph on raw rows gives what the TFRecords hold, on every row."""

import numpy as np
import pytest

from preprocessing.finish import tensors_of
from preprocessing.prepared import PreparedDataset


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_graph_on_raw_rows_equals_the_records(prepared: PreparedDataset, split: str) -> None:
    arrays, raw = prepared.arrays(split), prepared.raw(split)
    assert raw.num_rows == prepared.rows(split) == len(arrays["label"]) > 100
    got = prepared.transform()(tensors_of(raw.drop(["label"])))
    np.testing.assert_array_equal(got["ids"].numpy(), arrays["ids"])
    np.testing.assert_allclose(got["values"].numpy(), arrays["values"], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(raw["label"].to_numpy(), arrays["label"])


def test_the_log_reaches_every_kind_of_id(prepared: PreparedDataset) -> None:
    ids = prepared.arrays("train")["ids"]
    tokens = prepared.tokens()
    assert len(tokens) == prepared.manifest["num_features"]
    seen = {tokens[i] for i in np.unique(ids)}
    for token in ("price=", "brand=Är", "brand=", "genres=", "visits=16", "date=0"):
        assert token in seen, token
    assert any(t.startswith("user_hour#") for t in seen)
    assert any(t.startswith("age~") for t in seen)
    assert sum(t.startswith("brand=") for t in tokens) == 5
