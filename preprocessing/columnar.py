"""Arrow columns of any type to the two types the rest of the job knows: text and float32.

Text: a dictionary (each distinct text of the batch once, and a code per row), because counting and
looking up then cost per distinct value and not per row; missing is the empty text, integers are
written in decimal, whole floats as integers, lists joined by their field's separator. Numbers:
float32, missing is null. Also the Parquet reader.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.errors import SourceError
from preprocessing.filesystem import DataPath, parquet_file
from preprocessing.spec_errors import near

if TYPE_CHECKING:
    from preprocessing.sources import Wanted

BATCH_ROWS = 1 << 16
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
CODED = pa.dictionary(pa.int32(), pa.string())
Rejected = list[tuple[str, str]]
Part = tuple[pa.RecordBatch, Rejected, np.ndarray]


def coded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """A text column as a dictionary; null counts as empty."""
    column = _one(column)
    if pa.types.is_dictionary(column.type):
        return column
    return pc.fill_null(column, "").dictionary_encode()


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its text columns written out, a text per row."""
    columns = [
        c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def parquet_pieces(path: DataPath, wanted: Sequence[str], size: int) -> list[tuple[int, ...]]:
    """Row groups of a Parquet file in runs of about `size` bytes."""
    try:
        with parquet_file(path) as file:
            metadata, names = file.metadata, file.schema_arrow.names
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: not a Parquet file: {error}") from None
    for column in wanted:
        if column not in names:
            raise SourceError(
                f"{path}: no column '{column}'{near(column, names)}; columns are {', '.join(names)}"
            )
    pieces: list[list[int]] = []
    filled = size
    for group in range(metadata.num_row_groups):
        if filled >= size:
            pieces.append([])
            filled = 0
        pieces[-1].append(group)
        filled += metadata.row_group(group).total_byte_size
    if not metadata.num_rows:
        raise SourceError(f"{path}: the file has no rows")
    return [tuple(p) for p in pieces]


def read_parquet(path: DataPath, groups: tuple[int, ...], wanted: Wanted) -> Iterator[Part]:
    """The given row groups in order."""
    with parquet_file(path) as file:
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        firsts = np.cumsum([0, *sizes])
        for group in groups:
            batches = file.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(wanted.all))
            yield from convert_all(batches, wanted, path, int(firsts[group]))


def convert_all(
    batches: Iterable[pa.RecordBatch], wanted: Wanted, path: DataPath, first: int = 0
) -> Iterator[Part]:
    """Batches with columns of any type to the wanted types; a row's place is its number."""
    for batch in batches:
        columns = {}
        for name in wanted.all:
            if name not in batch.schema.names:
                raise SourceError(f"{path}: no column '{name}'{near(name, batch.schema.names)}")
            numeric = name not in wanted.texts and not pa.types.is_nested(batch[name].type)
            column = batch.column(name)
            if numeric and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
                columns[name] = pc.cast(column, pa.float32(), safe=False)
            else:
                columns[name] = to_text(column, wanted.lists.get(name, "|"))
        places = np.arange(first, first + len(batch))
        first += len(batch)
        yield finish(pa.table(columns), wanted, (), [], places)


def to_text(column: pa.Array, separator: str) -> pa.Array:
    """Any column as text (see the module's rules)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts = to_text(column.flatten(), separator)
        offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(column), 0))])
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), parts)
        return pc.binary_join(lists, separator)
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 1e15))
        integer = pc.cast(pc.cast(pc.if_else(whole, column, 0), pa.int64()), pa.string())
        text = pc.if_else(whole, integer, pc.cast(column, pa.string()))
        column = pc.if_else(pc.is_nan(column), "", text)
    elif pa.types.is_timestamp(kind):
        column = pc.strftime(pc.cast(column, pa.timestamp("s"), safe=False), "%Y-%m-%d %H:%M:%S")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or not pa.types.is_string(kind):
        column = pc.cast(column, pa.string())
    return pc.fill_null(column, "")


def as_text(value: Any, separator: str | None = None) -> str:
    """A JSON value as text. Raises ValueError for an object, or a list that has no separator."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list) and separator is not None:
        return separator.join(as_text(v) for v in value)
    if isinstance(value, list | dict):
        raise ValueError(f"a {type(value).__name__} where one value is expected")
    return str(value)


def decode(
    table: pa.Table, encoding: str, places: np.ndarray
) -> tuple[pa.Table, Rejected, np.ndarray]:
    """Binary columns to text; rows with bytes that are not `encoding` are set aside."""
    bad = np.zeros(table.num_rows, bool)
    columns, reasons = {}, {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        try:
            if encoding.lower().replace("_", "-") not in ("utf-8", "utf8", "ascii"):
                raise pa.ArrowInvalid("needs Python's decoder")
            columns[name] = column.cast(pa.string())
        except pa.ArrowInvalid:
            texts = []
            for row, value in enumerate(column.to_pylist()):
                try:
                    texts.append(value.decode(encoding))
                except UnicodeDecodeError as error:
                    bad[row] = True
                    reasons.setdefault(row, f"column '{name}': not {encoding}: {error.reason}")
                    texts.append(value.decode(encoding, "backslashreplace"))
            columns[name] = pa.array(texts, pa.string())
    table = pa.table(columns)
    return _set_aside(table, bad, reasons, places)


def finish(
    table: pa.Table,
    wanted: Wanted,
    missing: Sequence[str],
    rejected: Rejected,
    places: np.ndarray,
) -> Part:
    """Columns in their final types and names; text that should be a number is rejected.

    `places` (B,) says where each row of `table` stands in its file.
    """
    texts = {name: _blanked(coded(table[name]), missing) for name in wanted.texts}
    bad = np.zeros(table.num_rows, bool)
    reasons: dict[int, str] = {}
    numbers: dict[str, Any] = {}
    for name in wanted.numbers:
        column = _one(table[name])
        if pa.types.is_floating(column.type):
            nan = pc.is_nan(column)
            some = pc.any(nan).as_py()
            numbers[name] = (
                pc.if_else(nan, pa.scalar(None, pa.float32()), column) if some else column
            )
        else:
            numbers[name] = _number(name, column, missing, bad, reasons)
    names = [f"s:{n}" for n in wanted.texts] + [f"n:{n}" for n in wanted.numbers]
    batch = pa.RecordBatch.from_arrays([*texts.values(), *numbers.values()], names=names)
    if not reasons:
        return batch, rejected, places
    _, more, places = _set_aside(table, bad, reasons, places)
    return batch.filter(pa.array(~bad)), rejected + more, places


def _blanked(column: pa.DictionaryArray, missing: Sequence[str]) -> pa.DictionaryArray:
    if not missing:
        return column
    gone = pc.is_in(column.dictionary, pa.array(missing, pa.string()))
    texts = pc.if_else(gone, "", column.dictionary)
    return pa.DictionaryArray.from_arrays(column.indices, texts)


def _number(
    name: str, column: pa.Array, missing: Sequence[str], bad: np.ndarray, reasons: dict[int, str]
) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    text = pc.utf8_trim_whitespace(column)
    none = pc.is_in(text, pa.array(["", "nan", "NaN", *missing], pa.string()))
    number = pc.match_substring_regex(text, _NUMBER)
    values = pc.cast(pc.if_else(number, text, pa.scalar(None, pa.string())), pa.float64())
    values = pc.cast(values, pa.float32(), safe=False)
    wrong = pc.and_not(pc.or_(pc.invert(number), pc.fill_null(pc.is_inf(values), False)), none)
    for row in np.flatnonzero(wrong.to_numpy(zero_copy_only=False)):
        reasons.setdefault(int(row), f"column '{name}': not a number: {column[int(row)].as_py()!r}")
        bad[row] = True
    return values


def _set_aside(
    table: pa.Table, bad: np.ndarray, reasons: dict[int, str], places: np.ndarray
) -> tuple[pa.Table, Rejected, np.ndarray]:
    if not reasons:
        return table, [], places
    rejected = [
        (reasons[row], json.dumps(table.slice(row, 1).to_pylist()[0], ensure_ascii=False))
        for row in sorted(reasons)
    ]
    return table.filter(pa.array(~bad)), rejected, places[~bad]


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column
