"""The raw columns a served model reads: names, dtypes, missing-value tokens, encoding."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

MISSING = {"string": b"", "float32": np.float32(np.nan)}


class ColumnError(ValueError):
    """A column is unknown, absent, of the wrong type or of the wrong length."""


@dataclass(frozen=True)
class Column:
    """One raw serving input.

    `required` columns have no missing-value default: a request must carry them.
    """

    name: str
    dtype: str
    required: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in MISSING:
            raise ColumnError(
                f"column {self.name!r}: dtype {self.dtype!r} is not served, "
                f"expected one of {sorted(MISSING)}"
            )

    @property
    def missing(self) -> bytes | np.float32:
        """What an omitted cell becomes: the empty string, or NaN."""
        return MISSING[self.dtype]


def parse_columns(columns: Iterable[Mapping[str, object] | Column]) -> tuple[Column, ...]:
    """Read a manifest's `columns` list; raises ColumnError when it is empty or repeats a name."""
    parsed = tuple(
        column
        if isinstance(column, Column)
        else Column(str(column["name"]), str(column["dtype"]), bool(column.get("required", False)))
        for column in columns
    )
    if not parsed:
        raise ColumnError("a served model needs at least one raw column")
    names = [column.name for column in parsed]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ColumnError(f"column names repeat: {', '.join(repeated)}")
    return parsed


def as_vector(column: Column, values: object) -> np.ndarray:
    """One column's sequence, array or single value as object array of bytes or float32 (B,).

    None, NaN and pandas' NA are missing cells of either kind. An integer given for a string column
    becomes its decimal text, as the preprocessing job reads integer ids.

    Raises:
        ColumnError: for a value that does not fit the column, naming the row.
    """
    if isinstance(values, (Mapping, Set)):
        raise ColumnError(
            f"column {column.name!r}: expected a list of values, got {_quote(values)}"
        )
    vector = values if isinstance(values, np.ndarray) else _object_vector(values)
    vector = np.atleast_1d(vector)
    if vector.ndim != 1:
        raise ColumnError(
            f"column {column.name!r}: expected one value per row, got shape {vector.shape}"
        )
    return _strings(column, vector) if column.dtype == "string" else _floats(column, vector)


def _object_vector(values: object) -> np.ndarray:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        values = [values]
    vector = np.empty(len(values), object)
    for index, value in enumerate(values):
        vector[index] = value
    return vector


def _strings(column: Column, vector: np.ndarray) -> np.ndarray:
    encoded = np.empty(len(vector), object)
    for row, value in enumerate(vector.tolist()):
        if isinstance(value, bytes):
            encoded[row] = value
        elif isinstance(value, str):
            try:
                encoded[row] = value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raise ColumnError(
                    f"column {column.name!r}, row {row}: {_quote(value)} is not valid Unicode text"
                ) from None
        elif _is_missing(value):
            encoded[row] = b""
        elif isinstance(value, Integral) and not isinstance(value, bool):
            encoded[row] = str(int(value)).encode()
        else:
            raise ColumnError(
                f"column {column.name!r}, row {row}: expected text or an integer id, "
                f"got {_quote(value)}"
            )
    return encoded


def _floats(column: Column, vector: np.ndarray) -> np.ndarray:
    if vector.dtype.kind in "fiub":
        return vector.astype(np.float32)
    numbers = np.empty(len(vector), np.float32)
    for row, value in enumerate(vector.tolist()):
        if _is_missing(value):
            numbers[row] = np.nan
        elif isinstance(value, (Real, np.bool_)):
            try:
                numbers[row] = value
            except OverflowError:
                numbers[row] = np.copysign(np.inf, 1 if value > 0 else -1)
        else:
            raise ColumnError(
                f"column {column.name!r}, row {row}: expected a number, got {_quote(value)}"
            )
    return numbers


def _is_missing(value: object) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas, not imported
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _quote(value: object) -> str:
    """The value in one line of a message, cut to what helps to find it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
