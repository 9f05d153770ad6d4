"""Long lists are searched by hash, short ones by Arrow: the same places."""

import numpy as np
import pyarrow as pa
import pytest

from preprocessing import text_index
from preprocessing.text_index import TextIndex

VALUES = ["", "a", "ab", "a" * 30, "é", *(f"value-{i}" for i in range(200))]
ASKED = ["ab", "nothing", None, "", "value-7", "value-200", "é", "ab", "value-199"]


def places(values: list[str], asked: list[str | None], long: int) -> list[int]:
    return TextIndex(pa.array(values), long).find(pa.array(asked, pa.string())).tolist()


@pytest.mark.parametrize("long", [0, 1000])
def test_places_of_texts(long: int) -> None:
    expected = [VALUES.index(text) if text in VALUES else -1 for text in ASKED]
    assert places(VALUES, ASKED, long) == expected
    assert places(VALUES, [], long) == []


def test_a_slice_of_a_column_is_found_too() -> None:
    texts = pa.array(["x", *VALUES, "y"]).slice(1, len(VALUES))
    assert TextIndex(pa.array(VALUES), 0).find(texts).tolist() == list(range(len(VALUES)))


def test_equal_hashes_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def three(texts: pa.Array) -> np.ndarray:
        return np.array([len(text or "") % 3 for text in texts.to_pylist()], np.uint64)

    monkeypatch.setattr(text_index, "_hashes", three)
    expected = [VALUES.index(text) if text in VALUES else -1 for text in ASKED]
    assert places(VALUES, ASKED, 0) == expected
