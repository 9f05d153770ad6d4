"""Whatever holds rows -> plain columns: DataFrame, Arrow table, dictionary, list of dictionaries.

Recognized by what they can do, so that neither pandas, polars nor pyarrow is imported.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from serving.columns import Column, ColumnError, as_vector

Table = object


def to_columns(rows: Table) -> dict[str, object]:
    """Column name -> sequence of values.

    Raises:
        ColumnError: not a table, or a row is not a mapping.
    """
    if isinstance(rows, Mapping):
        return {str(name): values for name, values in rows.items()}
    if hasattr(rows, "column_names") and hasattr(rows, "column"):  # pyarrow Table, RecordBatch
        return {name: _arrow_values(rows.column(name)) for name in rows.column_names}
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):  # pandas, polars
        return {str(name): rows[name].to_numpy() for name in rows.columns}
    if isinstance(rows, Sequence) and not isinstance(rows, (str, bytes)):
        return _from_dictionaries(rows)
    raise ColumnError(
        "rows: expected a DataFrame, an Arrow table, a dictionary of columns or a list of "
        f"dictionaries, got {type(rows).__name__}"
    )


def _arrow_values(column: object) -> object:
    if str(column.type) in ("float", "double") and not column.null_count:
        return np.asarray(column)
    return column.to_pylist()


def _from_dictionaries(rows: Sequence[object]) -> dict[str, list]:
    names: dict[str, None] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ColumnError(f"row {index}: expected a dictionary, got {type(row).__name__}")
        names.update(dict.fromkeys(row))
    return {str(name): [row.get(name) for row in rows] for name in names}


def row_inputs(
    columns: Mapping[str, Column], rows: Table, *, ignore_unknown: bool = False
) -> dict[str, np.ndarray]:
    """One vector (B,) per column of the model; columns not given are missing cells.

    Raises:
        ColumnError: see `_vectors`; or columns of different lengths.
    """
    vectors = _vectors(columns, rows, ignore_unknown, "rows")
    size = _common_length(vectors, "rows")
    _check_required(columns, vectors)
    return {
        name: vectors[name] if name in vectors else _missing(column, (size,))
        for name, column in columns.items()
    }


def candidate_inputs(
    columns: Mapping[str, Column],
    context: Mapping[str, object],
    candidates: Table,
    *,
    ignore_unknown: bool = False,
) -> tuple[dict[str, np.ndarray], int]:
    """Inputs of `score_candidates` in its matrix form, and the number of candidates N.

    Context columns become (1, 1), candidate columns (1, N), columns in neither (1, 1) missing.

    Raises:
        ColumnError: see `_vectors`; a context value is not single; a column is in both.
    """
    shared = _vectors(columns, context, ignore_unknown, "context")
    own = _vectors(columns, candidates, ignore_unknown, "candidates")
    for name, vector in shared.items():
        if name in own:
            raise ColumnError(f"column {name!r} is given in both the context and the candidates")
        if len(vector) != 1:
            raise ColumnError(f"context column {name!r}: expected one value, got {len(vector)}")
    size = _common_length(own, "candidates")
    vectors = {**shared, **own}
    _check_required(columns, vectors)
    inputs = {
        name: vectors[name][None] if name in vectors else _missing(column, (1, 1))
        for name, column in columns.items()
    }
    return inputs, size


def _vectors(
    columns: Mapping[str, Column], rows: Table, ignore_unknown: bool, what: str
) -> dict[str, np.ndarray]:
    """The given columns that the model has, as vectors.

    An unknown column is an error unless told otherwise: behind it may stand a misspelt name, and
    the model would score the real column as missing without a word.
    """
    given = to_columns(rows)
    unknown = [name for name in given if name not in columns]
    if unknown and not ignore_unknown:
        raise ColumnError(
            f"{what}: the model has no column {unknown[0]!r}, it has {', '.join(columns)}"
        )
    return {
        name: as_vector(columns[name], values) for name, values in given.items() if name in columns
    }


def _common_length(vectors: Mapping[str, np.ndarray], what: str) -> int:
    if not vectors:
        raise ColumnError(f"{what}: none of the model's columns is given")
    lengths = {name: len(vector) for name, vector in vectors.items()}
    first, size = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != size:
            raise ColumnError(f"{what}: column {name!r} has {length} values, {first!r} has {size}")
    if not size:
        raise ColumnError(f"{what}: there is no row")
    return size


def _check_required(columns: Mapping[str, Column], given: Mapping[str, np.ndarray]) -> None:
    for name, column in columns.items():
        if column.required and name not in given:
            raise ColumnError(f"column {name!r} is required by the model and is not given")


def _missing(column: Column, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, column.missing, object if column.dtype == "string" else np.float32)
