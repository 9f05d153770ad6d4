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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from preprocessing import columnar
from preprocessing.byte_blocks import open_text
from preprocessing.errors import SourceError
from preprocessing.schema import Source

if TYPE_CHECKING:
    from preprocessing.sources import Wanted

_UNIT = "\x1f"
_BOM = b"\xef\xbb\xbf"
Part = tuple[pa.RecordBatch, list[tuple[str, str]]]


def read_header(path: Path, source: Source) -> tuple[list[str], int]:
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


def read_csv(pieces: Iterable[bytes], path: Path, source: Source, wanted: Wanted) -> Iterator[Part]:
    """Delimited text; rows with the wrong number of columns are rejected."""
    names, _ = read_header(path, source)
    delimiter = source.separator
    for piece in pieces:
        if len(delimiter) > 1:
            piece = piece.replace(delimiter.encode(source.encoding), _UNIT.encode())
        one = _UNIT if len(delimiter) > 1 else delimiter
        yield _parse(piece, names, one, path, source, wanted)


def _parse(
    piece: bytes, names: list[str], delimiter: str, path: Path, source: Source, wanted: Wanted
) -> Part:
    quote = source.quote_character if source.format != "libfm" else ""
    direct = [c for c in wanted.numbers if c not in wanted.texts]
    types = dict.fromkeys(wanted.texts, pa.string()) | dict.fromkeys(direct, pa.float32())
    try:
        table, rejected = _arrow(piece, names, types, delimiter, quote, source)
        if all(pc.all(pc.is_finite(table[c])).as_py() is not False for c in direct):
            return columnar.finish(table, wanted, source.missing, rejected)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        pass
    types = dict.fromkeys(wanted.all, pa.binary())
    try:
        table, rejected = _arrow(piece, names, types, delimiter, quote, source, strict=False)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())}") from None
    table, undecodable = columnar.decode(table, source.encoding)
    return columnar.finish(table, wanted, source.missing, rejected + undecodable)


def _arrow(
    piece: bytes,
    names: list[str],
    types: dict[str, pa.DataType],
    delimiter: str,
    quote: str,
    source: Source,
    strict: bool = True,
) -> tuple[pa.Table, list[tuple[str, str]]]:
    rejected: list[tuple[str, str]] = []

    def refuse(row: Any) -> str:
        reason = f"{row.actual_columns} columns, expected {row.expected_columns}"
        rejected.append((reason, row.text or ""))
        return "skip"

    table = arrow_csv.read_csv(
        pa.BufferReader(piece),
        arrow_csv.ReadOptions(
            column_names=names,
            block_size=len(piece) + 1,  # one Arrow chunk: nothing to put together again
            encoding=source.encoding if strict else "utf-8",
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
        ),
    )
    return table, rejected


def read_libfm(
    pieces: Iterable[bytes], path: Path, source: Source, wanted: Wanted
) -> Iterator[Part]:
    """`label id:1 id:1 ...`: the k-th feature's id is the value of the k-th of `columns`.

    With a single name in `columns`, all ids of a row are its values, separated by spaces (a
    multi-valued field). A feature value other than 1 has no place in such a table: rejected.
    """
    names = ["label", *(source.columns or ())]
    for piece in pieces:
        lines = pa.array(re.sub(rb"[ \t]+(?=\r?\n|$)", b"", piece).splitlines(), pa.binary())
        text, undecodable = columnar.decode(pa.table({"line": lines}), "utf-8")
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
        if not data:
            empty = pa.table({c: pa.array([], pa.string()) for c in wanted.all})
            yield columnar.finish(empty, wanted, source.missing, bad + undecodable)
            continue
        batch, rejected = _parse(data, names, delimiter, path, source, wanted)
        yield batch, rejected + bad + undecodable


def read_jsonl(
    pieces: Iterable[bytes], path: Path, source: Source, wanted: Wanted
) -> Iterator[Part]:
    """One JSON object a line; a key that a row lacks is a missing value."""
    for piece in pieces:
        rows, rejected = [], []
        for line in piece.splitlines():
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                rows.append([columnar.as_text(row.get(c), wanted.lists.get(c)) for c in wanted.all])
            except ValueError as error:
                reason = f"not a JSON object of plain values: {str(error).splitlines()[0]}"
                rejected.append((reason, line.decode("utf-8", "backslashreplace")))
        columns = list(zip(*rows, strict=True)) if rows else [() for _ in wanted.all]
        table = pa.table(
            {c: pa.array(v, pa.string()) for c, v in zip(wanted.all, columns, strict=True)}
        )
        yield columnar.finish(table, wanted, source.missing, rejected)
