"""Splits: the shares, and who may never be separated or confused."""

from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing import hashing, splits

from .conftest import spec_of

N = 20_000


def codes(split: dict[str, Any], columns: dict[str, Any], **place: Any) -> np.ndarray:
    batch = pa.RecordBatch.from_pydict(columns)
    places = np.arange(len(batch))
    where = splits.Place("log.csv", place.pop("given", None), places, **place)
    return splits.assign(spec_of(split=split), batch, where)


USERS = {"s:user": [f"u{i % 500}" for i in range(N)], "s:day": [str(i // 2000) for i in range(N)]}


def test_ratio_gives_the_shares_and_another_seed_another_split() -> None:
    first = codes({"kind": "ratio"}, USERS)
    np.testing.assert_allclose(np.bincount(first) / N, [0.8, 0.1, 0.1], atol=0.01)
    assert (codes({"kind": "ratio"}, USERS) == first).all()
    assert (codes({"kind": "ratio", "seed": 8}, USERS) != first).mean() > 0.2


def test_hash_never_separates_a_user() -> None:
    found = codes(
        {"kind": "hash", "key": ["user"], "train": 0.5, "validation": 0.25, "test": 0.25}, USERS
    )
    by_user = found.reshape(-1, 500)
    assert (by_user == by_user[0]).all()
    np.testing.assert_allclose(np.bincount(found) / N, [0.5, 0.25, 0.25], atol=0.08)


def test_hash_without_key_keeps_equal_rows_together() -> None:
    found = codes({"kind": "hash"}, {"s:a": ["x", "y"] * 50, "n:b": pa.array([1.0, 2.0] * 50)})
    assert len(set(found[::2])) == 1


def test_order_cuts_by_overall_number_and_can_halve_the_rest() -> None:
    overall = np.arange(N)
    split = {"kind": "order", "train": 0.8, "validation": 0.1, "test": 0.1}
    found = codes(split, USERS, overall=overall, total=N)
    assert (np.flatnonzero(np.diff(found)) == [N * 0.8 - 1, N * 0.9 - 1]).all()
    found = codes({**split, "rest": "random"}, USERS, overall=overall, total=N)
    assert (found[: N * 8 // 10] == 0).all()
    rest = found[N * 8 // 10 :]
    assert set(rest) == {1, 2}
    assert abs((rest == 1).mean() - 0.5) < 0.03


def test_column_by_value_and_by_time() -> None:
    listed = {"kind": "column", "column": "day", "train": [0, 1], "test": ["9"]}
    found = codes(listed, USERS)
    assert np.bincount(found, minlength=256)[[0, 2, splits.NONE]].tolist() == [4000, 2000, 14000]
    later = {"kind": "column", "column": "day", "validation_from": 7, "test_from": 9}
    assert np.bincount(codes(later, USERS)).tolist() == [14000, 4000, 2000]


def test_files_say_their_split() -> None:
    assert (codes({"kind": "files", "train": ["a"]}, USERS, given="test") == 2).all()


def test_hashes_do_not_depend_on_slicing_and_spread_evenly() -> None:
    texts = pa.array(["", "a", "a" * 8, "a" * 9, "ü" * 20, None, *map(str, range(5000))])
    whole = hashing.add_text(hashing.start(len(texts), 1), texts)
    part = hashing.add_text(hashing.start(3, 1), texts.slice(2, 3))
    assert (whole[2:5] == part).all()
    assert whole[0] == whole[5]
    assert len(set(whole.tolist())) == len(texts) - 1
    counts = np.histogram(hashing.unit(whole[6:]), 10, (0, 1))[0]
    assert abs(counts - 500).max() < 100
    # Fixed for ever: a split made today must be the same tomorrow.
    assert f"{whole[1]:016x}" == "1323589a8a6b991b"
