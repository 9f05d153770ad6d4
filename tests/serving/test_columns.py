import numpy as np
import pytest

from serving.columns import Column, ColumnError, as_vector, parse_columns

STRING, FLOAT = Column("s", "string"), Column("f", "float32")


def test_text_of_every_kind_becomes_bytes():
    got = as_vector(STRING, ["a", b"b\xff", "ü", None, float("nan"), 12, np.int64(2**60)])
    expected = [b"a", b"b\xff", "ü".encode(), b"", b"", b"12", b"1152921504606846976"]
    assert got.tolist() == expected
    assert got.dtype == object


def test_undecodable_text_survives():
    broken = b"\xffabc".decode("utf-8", "surrogateescape")
    assert as_vector(STRING, [broken]).tolist() == [b"\xffabc"]


def test_numpy_text_and_integers():
    assert as_vector(STRING, np.array(["x", "yz"])).tolist() == [b"x", b"yz"]
    assert as_vector(STRING, np.array([b"x", b"yz"])).tolist() == [b"x", b"yz"]
    assert as_vector(STRING, np.array([7, 8])).tolist() == [b"7", b"8"]


def test_numbers_become_float32_and_none_nan():
    got = as_vector(FLOAT, [1, 2.5, None, True, np.float64(3)])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array([1, 2.5, np.nan, 1, 3], np.float32))


def test_a_scalar_is_one_row():
    assert as_vector(STRING, "abc").tolist() == [b"abc"]
    assert as_vector(FLOAT, np.float32(2)).tolist() == [2.0]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (FLOAT, [1.0, "2"], "column 'f', row 1: expected a number, got '2'"),
        (FLOAT, [1.0, b"2"], "row 1: expected a number"),
        (STRING, ["a", 2.5], "column 's', row 1: expected text or an integer id, got 2.5"),
        (STRING, [True], "row 0: expected text or an integer id, got True"),
        (STRING, ["a", ["b"]], "row 1: expected text or an integer id"),
        (FLOAT, np.zeros((2, 2)), "one value per row, got shape"),
    ],
)
def test_misfits_are_named(column, values, message):
    with pytest.raises(ColumnError, match=message.replace("(", r"\(")):
        as_vector(column, values)


def test_parse_columns_refuses_what_cannot_be_served():
    with pytest.raises(ColumnError, match="dtype 'int64' is not served"):
        parse_columns([{"name": "a", "dtype": "int64"}])
    with pytest.raises(ColumnError, match="repeat: a"):
        parse_columns([{"name": "a", "dtype": "string"}, {"name": "a", "dtype": "float32"}])
    with pytest.raises(ColumnError, match="at least one"):
        parse_columns([])
