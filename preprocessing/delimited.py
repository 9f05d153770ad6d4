"""CSV, TSV, libfm and JSON lines to Arrow, with every bad row set aside and explained.

Each chunk is parsed the fast way (Arrow's own CSV reader makes the wanted types). Only if that
fails is the same chunk read again as plain bytes and its bad rows are looked for, so a clean file
pays nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from preprocessing import columnar
from preprocessing.ahead import side_by_side
from preprocessing.byte_blocks import Piece, open_text, row_starts
from preprocessing.columnar import Part, Rejected
from preprocessing.errors import SourceError
from preprocessing.filesystem import DataPath
from preprocessing.schema import Source

if TYPE_CHECKING:
    from preprocessing.sources import Wanted

_UNIT = "\x1f"
_BOM = b"\xef\xbb\xbf"


def read_header(path: DataPath, source: Source) -> tuple[list[str], int]:
    """(column names, byte where the rows start). Raises SourceError if there is nothing."""
    with open_text(path) as file:
        start = len(_BOM) if file.read(3) == _BOM else 0
        file.seek(start)
        line = file.readline()
    if not line.strip():
        raise SourceError(f"{path}: the file is empty")
    if not source.header:
        return list(source.columns or ()), start
    text = line.decode(source.encoding, "replace").rstrip("\r\n")
    if len(source.separator) > 1:
        names = text.split(source.separator)
    else:
        quote = source.quote_character
        options: dict[str, Any] = (
            {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
        )
        names = next(csv.reader(io.StringIO(text), delimiter=source.separator, **options))
    if source.columns:
        raise SourceError(f"{path}: 'columns' is for files without header (set header: false)")
    return names, start + len(line)


def read_csv(
    pieces: Iterable[Piece], path: DataPath, source: Source, wanted: Wanted
) -> Iterator[Part]:
    """Delimited text; rows with the wrong number of columns are rejected."""
    names, _ = read_header(path, source)
    delimiter = source.separator

    def part(numbered: Piece) -> Part:
        start, piece = numbered
        one = _UNIT if len(delimiter) > 1 else delimiter
        short = piece
        if len(delimiter) > 1:
            short = piece.replace(delimiter.encode(source.encoding), _UNIT.encode())
        table, rejected, kept = _parse(short, names, one, path, source, wanted)
        rows = len(kept) + len(rejected)
        starts = start + row_starts(piece, source.quote_character, rows)
        return _finish(table, wanted, source, rejected, starts[kept])

    yield from side_by_side(part, pieces)


def _parse(
    piece: bytes, names: list[str], delimiter: str, path: DataPath, source: Source, wanted: Wanted
) -> tuple[pa.Table, Rejected, np.ndarray]:
    """(wanted columns, rows of a wrong width, which of all rows are not among them)."""
    quote = source.quote_character if source.format != "libfm" else ""
    direct = [c for c in wanted.numbers if c not in wanted.texts]
    types = dict.fromkeys(wanted.texts, columnar.CODED) | dict.fromkeys(direct, pa.float32())
    try:
        found = _arrow(piece, names, types, delimiter, quote, source)
        if all(pc.all(pc.is_finite(found[0][c])).as_py() is not False for c in direct):
            return found
    except (pa.ArrowInvalid, UnicodeDecodeError):
        pass
    types = dict.fromkeys(wanted.all, pa.binary())
    try:
        return _arrow(piece, names, types, delimiter, quote, source, strict=False)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())}") from None


def _finish(
    table: pa.Table, wanted: Wanted, source: Source, rejected: Rejected, places: np.ndarray
) -> Part:
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        table, undecodable, places = columnar.decode(table, source.encoding, places)
        rejected = rejected + undecodable
    return columnar.finish(table, wanted, source.missing, rejected, places)


def _arrow(
    piece: bytes,
    names: list[str],
    types: dict[str, pa.DataType],
    delimiter: str,
    quote: str,
    source: Source,
    strict: bool = True,
) -> tuple[pa.Table, Rejected, np.ndarray]:
    rejected: Rejected = []
    numbers: list[int] = []

    def refuse(row: Any) -> str:
        reason = f"{row.actual_columns} columns, expected {row.expected_columns}"
        rejected.append((reason, row.text or ""))
        numbers.append(row.number - 1)
        return "skip"

    table = arrow_csv.read_csv(
        pa.BufferReader(piece),
        arrow_csv.ReadOptions(
            column_names=names,
            block_size=len(piece) + 1,  # one Arrow chunk: nothing to put together again
            encoding=source.encoding if strict else "utf-8",
            use_threads=False,  # only so are refused rows numbered; it costs less, too
        ),
        arrow_csv.ParseOptions(
            delimiter=delimiter,
            quote_char=quote or False,
            newlines_in_values=bool(quote) and quote.encode() in piece,
            invalid_row_handler=refuse,
        ),
        arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=["", *source.missing],
            strings_can_be_null=False,
            check_utf8=not piece.isascii(),
        ),
    )
    return table, rejected, np.delete(np.arange(table.num_rows + len(numbers)), numbers)


def read_libfm(
    pieces: Iterable[Piece], path: DataPath, source: Source, wanted: Wanted
) -> Iterator[Part]:
    """`label id:1 id:1 ...`: the k-th feature's id is the value of the k-th of `columns`.

    With a single name in `columns`, all ids of a row are its values, separated by spaces (a
    multi-valued field). A feature value other than 1 has no place in such a table: rejected.
    """
    names = ["label", *(source.columns or ())]
    for start, piece in pieces:
        lines = pa.array(re.sub(rb"[ \t]+(?=\r?\n|$)", b"", piece).splitlines(), pa.binary())
        places = start + _line_starts(piece)
        text, undecodable, places = columnar.decode(pa.table({"line": lines}), "utf-8", places)
        good = pc.match_substring_regex(
            text["line"], r"^[^\s:]+( +\d+:1(\.0*)?)" + ("+$" if len(names) > 2 else "*$")
        )
        reason = "not 'label id:1 id:1 ...'"
        bad = [(reason, line.as_py()) for line in text["line"].filter(pc.invert(good))]
        bad = [b for b in bad if b[1].strip()]
        plain = pc.replace_substring_regex(text["line"].filter(good), r":1(\.0*)?( |$)", r"\2")
        if len(names) == 2:
            plain = pc.replace_substring_regex(plain, r"^(\S+) *", "\\1\x1f")
        data = "\n".join(plain.to_pylist()).encode()
        delimiter = " " if len(names) > 2 else _UNIT
        places = places[good.to_numpy()]
        bad += undecodable
        if not data:
            empty = pa.table({c: pa.array([], pa.string()) for c in wanted.all})
            yield columnar.finish(empty, wanted, source.missing, bad, places)
            continue
        table, rejected, kept = _parse(data, names, delimiter, path, source, wanted)
        yield _finish(table, wanted, source, rejected + bad, places[kept])


def _line_starts(piece: bytes) -> np.ndarray:
    """Where each of `piece.splitlines()` begins."""
    lengths = [len(line) for line in piece.splitlines(keepends=True)]
    return np.cumsum([0, *lengths[:-1]])


def read_jsonl(
    pieces: Iterable[Piece], path: DataPath, source: Source, wanted: Wanted
) -> Iterator[Part]:
    """One JSON object a line; a key that a row lacks is a missing value."""
    for start, piece in pieces:
        rows, rejected, places = [], [], []
        for place, line in zip(_line_starts(piece), piece.splitlines(), strict=True):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                rows.append([columnar.as_text(row.get(c), wanted.lists.get(c)) for c in wanted.all])
                places.append(start + place)
            except ValueError as error:
                reason = f"not a JSON object of plain values: {str(error).splitlines()[0]}"
                rejected.append((reason, line.decode("utf-8", "backslashreplace")))
        columns = list(zip(*rows, strict=True)) if rows else [() for _ in wanted.all]
        table = pa.table(
            {c: pa.array(v, pa.string()) for c, v in zip(wanted.all, columns, strict=True)}
        )
        numbers = np.array(places, np.int64)
        yield columnar.finish(table, wanted, source.missing, rejected, numbers)
