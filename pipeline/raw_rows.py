"""Raw rows from CSV, TSV or Parquet, batch by batch, as a model's served columns."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import PipelineError, nearest
from preprocessing.layout import served_name
from serving.columns import Column

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": ","}
_PARQUET = (".parquet", ".pq")


def batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of at most `rows` rows; text files give every column as text.

    Raises PipelineError for an unknown suffix, an empty or a broken file.
    """
    if path.suffix in _PARQUET:
        file = pq.ParquetFile(path)
        yield from file.iter_batches(rows)
        return
    if path.suffix not in _DELIMITERS:
        known = ", ".join([*_DELIMITERS, *_PARQUET])
        raise PipelineError(f"{path}: unknown kind of file {path.suffix!r}; expected {known}")
    try:
        reader = pyarrow.csv.open_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=_DELIMITERS[path.suffix], newlines_in_values=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(column_types=_all_text(path)),
        )
        yield from _resized(reader, rows)
    except pa.ArrowInvalid as error:
        raise PipelineError(f"{path}: {error}") from error


def _all_text(path: Path) -> dict[str, pa.DataType]:
    """Ids such as 007 must stay what they are, so nothing is guessed from the text."""
    with path.open("rb") as handle:
        first = handle.readline()
    options = pyarrow.csv.ParseOptions(delimiter=_DELIMITERS[path.suffix])
    header = pyarrow.csv.read_csv(pa.BufferReader(first), parse_options=options)
    return dict.fromkeys(header.column_names, pa.string())


def _resized(reader: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def count_rows(path: Path) -> int | None:
    """Rows of a Parquet file, which its footer states; None for text."""
    return pq.ParquetFile(path).metadata.num_rows if path.suffix in _PARQUET else None


def served_columns(
    batch: pa.RecordBatch, columns: Iterable[Column], where: str, first_row: int = 0
) -> dict[str, np.ndarray]:
    """The batch's values of the model's columns: bytes or float32, each (B,).

    A raw column such as `ad title` is found by the name it is served under, `ad_title`. Columns
    the model has and the batch has not are left out: they count as missing.

    Raises:
        PipelineError: none of the columns is there, or text stands in a numeric one.
    """
    have = {served_name(name): name for name in batch.schema.names}
    wanted = {column.name: column for column in columns}
    found = {
        name: _values(batch.column(have[name]), column, where, first_row)
        for name, column in wanted.items()
        if name in have
    }
    required = [name for name, column in wanted.items() if column.required and name not in have]
    if required or not found:
        name = required[0] if required else next(iter(wanted))
        raise PipelineError(f"{where}: no column {name!r}{nearest(name, have)}")
    return found


def _values(values: pa.Array, column: Column, where: str, first_row: int) -> np.ndarray:
    if column.dtype == "string":
        if pa.types.is_floating(values.type):
            # Integer ids beside nulls become floats in many writers; 3.0 is the id 3.
            values = values.cast(pa.int64())
        text = values if pa.types.is_binary(values.type) else values.cast(pa.string())
        return np.array([_bytes(value) for value in text.to_pylist()], object)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.array(
            [
                _number(text, column.name, where, first_row + row)
                for row, text in enumerate(values.to_pylist())
            ],
            np.float32,
        )
    return values.cast(pa.float32()).fill_null(float("nan")).to_numpy(zero_copy_only=False)


def _bytes(value: str | bytes | None) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else value.encode()


def _number(text: str | None, column: str, where: str, row: int) -> float:
    if text is None or not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise PipelineError(
            f"{where}: row {row + 1}, column {column!r}: expected a number, got {text!r}"
        ) from error


def one_row(path: Path, number: int) -> pa.RecordBatch:
    """Row `number` (from 1) of a file; raises PipelineError where there is none."""
    seen = 0
    for batch in batches(path, 4096):
        if number <= seen + batch.num_rows:
            return batch.slice(number - 1 - seen, 1)
        seen += batch.num_rows
    raise PipelineError(f"{path}: no row {number}; the file has {seen}")
