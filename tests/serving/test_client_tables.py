"""Rows of every kind become the same columns; rows that do not fit never leave the client."""

import random

import numpy as np
import pytest

from serving.client.tables import candidate_inputs, row_inputs, to_columns
from serving.columns import Column, ColumnError

COLUMNS = {
    "user": Column("user", "string", required=True),
    "price": Column("price", "float32"),
    "city": Column("city", "string"),
}
EXPECTED = {
    "user": np.array([b"1", b"2"], object),
    "price": np.array([2.5, np.nan], np.float32),
    "city": np.array([b"", b"Z\xc3\xbcrich"], object),
}


def tables():
    data = {"user": [1, 2], "price": [2.5, None], "city": [None, "Zürich"]}
    yield "dictionary", lambda: data
    yield (
        "dictionaries",
        lambda: [
            {"user": "1", "price": 2.5},
            {"user": "2", "city": "Zürich"},
        ],
    )
    for name in ("pandas", "polars"):
        yield name, lambda name=name: pytest.importorskip(name).DataFrame(data)
    yield "arrow table", lambda: pytest.importorskip("pyarrow").table(data)
    yield "arrow batch", lambda: pytest.importorskip("pyarrow").RecordBatch.from_pydict(data)
    yield (
        "arrow dictionary",
        lambda: pytest.importorskip("pyarrow").table(
            {
                **data,
                "city": pytest.importorskip("pyarrow").array(data["city"]).dictionary_encode(),
            }
        ),
    )
    yield "arrow chunks", lambda: _chunked(data)


def _chunked(data):
    table = pytest.importorskip("pyarrow").table(data)
    return pytest.importorskip("pyarrow").concat_tables([table[:1], table[1:]])


@pytest.mark.parametrize(("kind", "make"), tables(), ids=[kind for kind, _ in tables()])
def test_every_kind_of_table(kind, make):
    got = row_inputs(COLUMNS, make())
    assert list(got) == list(COLUMNS)
    for name, expected in EXPECTED.items():
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)


def test_omitted_columns_are_filled_to_full_length():
    got = row_inputs(COLUMNS, {"user": ["a", "b", "c"]})
    assert got["city"].tolist() == [b""] * 3
    assert np.isnan(got["price"]).tolist() == [True] * 3


def test_float_columns_of_arrow_keep_their_values():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"user": ["a", "b"], "price": pyarrow.array([1.5, 2.5])})
    np.testing.assert_array_equal(row_inputs(COLUMNS, table)["price"], [1.5, 2.5])


def test_candidates_are_one_row_of_a_matrix():
    context, candidates = {"user": 5, "price": [9]}, [{"city": "a"}, {"city": "b"}]
    inputs, size = candidate_inputs(COLUMNS, context, candidates)
    assert size == 2
    assert {name: array.shape for name, array in inputs.items()} == {
        "user": (1, 1),
        "price": (1, 1),
        "city": (1, 2),
    }
    assert inputs["user"][0, 0] == b"5"
    inputs, _ = candidate_inputs(COLUMNS, {"user": 5}, candidates)
    assert inputs["price"].shape == (1, 1)
    assert np.isnan(inputs["price"][0, 0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"usr": ["a"]}, "rows: the model has no column 'usr', it has user, price, city"),
        ({"user": ["a"], "price": [1, 2]}, "column 'price' has 2 values, 'user' has 1"),
        ({"user": [], "price": []}, "there is no row"),
        ([], "none of the model's columns is given"),
        ({"price": [1.0]}, "column 'user' is required"),
        ([{"user": "a"}, "b"], "row 1: expected a dictionary, got str"),
        ("user", "expected a DataFrame, an Arrow table"),
        (7, "expected a DataFrame, an Arrow table"),
        ({"user": [{"x": 1}]}, "column 'user', row 0: expected text or an integer id"),
        ({"user": ["a"], "price": ["cheap"]}, "column 'price', row 0: expected a number"),
        ({"user": [["a", "b"]]}, "column 'user', row 0"),
        ({"user": [b"a"], "price": [1 + 2j]}, "column 'price', row 0"),
    ],
)
def test_rows_that_do_not_fit(rows, message):
    with pytest.raises(ColumnError, match=message) as caught:
        row_inputs(COLUMNS, rows)
    assert "\n" not in str(caught.value)


def test_unknown_columns_can_be_dropped_but_not_all():
    got = row_inputs(COLUMNS, {"user": ["a"], "label": [1]}, ignore_unknown=True)
    assert list(got) == list(COLUMNS)
    with pytest.raises(ColumnError, match="none of the model's columns"):
        row_inputs(COLUMNS, {"label": [1]}, ignore_unknown=True)


@pytest.mark.parametrize(
    ("context", "candidates", "message"),
    [
        ({"user": ["a", "b"]}, {"city": ["x"]}, "context column 'user': expected one value, got 2"),
        ({"user": "a", "city": "x"}, {"city": ["x"]}, "both the context and the candidates"),
        ({"user": "a"}, {}, "candidates: none of the model's columns"),
        ({"user": "a"}, {"city": []}, "candidates: there is no row"),
        ({"price": 1.0}, {"city": ["x"]}, "column 'user' is required"),
        ({"who": "a"}, {"city": ["x"]}, "context: the model has no column 'who'"),
        ({"user": "a"}, {"city": ["x"], "price": [1, 2]}, "candidates: column 'price' has 2"),
    ],
)
def test_candidates_that_do_not_fit(context, candidates, message):
    with pytest.raises(ColumnError, match=message):
        candidate_inputs(COLUMNS, context, candidates)


def _junk(draw: random.Random, depth: int = 0) -> object:
    """Any value a caller might hold, nested a little."""
    leaves = [None, True, 0, -(2**70), 1.5, float("nan"), float("inf"), "", "ü", "\ud800", b"\xff"]
    leaves += [np.float16(1), np.int8(3), np.array(2.0), np.datetime64("2020-01-01"), 1j, object()]
    leaves += [np.zeros((2, 2)), np.array([], object), range(3), Ellipsis, int, {1}, lambda: 0]
    if depth > 2 or draw.random() < 0.5:
        return draw.choice(leaves)
    size = draw.randrange(4)
    if draw.random() < 0.5:
        return [_junk(draw, depth + 1) for _ in range(size)]
    names = ["user", "price", "city", "other", 3, None]
    return {draw.choice(names): _junk(draw, depth + 1) for _ in range(size)}


def test_fuzzed_rows_are_sent_whole_or_refused_in_one_line():
    """Whatever is given: arrays of the documented dtypes and one length, or ColumnError."""
    draw, sent, refused = random.Random(5), 0, 0
    for _ in range(3000):
        rows = _junk(draw)
        if draw.random() < 0.5:  # half the time something that starts out plausible
            rows = {"user": _junk(draw, 1), "price": _junk(draw, 1)}
        try:
            inputs = row_inputs(COLUMNS, rows, ignore_unknown=draw.random() < 0.5)
        except ColumnError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        sent += 1
        assert list(inputs) == list(COLUMNS)
        assert len({array.shape for array in inputs.values()}) == 1
        for name, array in inputs.items():
            assert array.dtype == EXPECTED[name].dtype
            assert array.dtype != object or all(type(v) is bytes for v in array)
    assert sent > 50
    assert refused > 500


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ColumnError, match="no column '3'"):
        row_inputs(COLUMNS, {3: ["a"]})
    assert list(to_columns({3: ["a"]})) == ["3"]
