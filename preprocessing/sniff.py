"""How an unknown log is written: format, delimiter, quotes, header, encoding, column names.

Everything is judged from the first megabyte, or from a Parquet file's schema.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from preprocessing.byte_blocks import open_text
from preprocessing.errors import SourceError
from preprocessing.filesystem import DataPath, parquet_file

_HEAD_BYTES = 1 << 20
_HEAD_ROWS = 500
_DELIMITERS = ("\t", ",", ";", "|", "::", "\x01", " ")
_LIBFM = re.compile(r"^[^\s:]+(\s+\d+:\S+)+\s*$")
_NUMBER = re.compile(r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")


@dataclass(frozen=True)
class Sniffed:
    """A source (the spec's `source` keys but `files`), its columns, and what was noticed.

    `lists` gives the columns that hold lists (JSON, Parquet) their separator; `skipped` says of a
    column why it cannot be used.
    """

    source: dict[str, Any]
    columns: tuple[str, ...]
    lists: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def sniff(path: DataPath) -> Sniffed:
    """Judges one file. Raises SourceError if it is empty or in no format the project reads."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return _parquet(path)
    text, encoding = _head(path)
    lines = [line for line in text.splitlines() if line.strip()][:_HEAD_ROWS]
    if not lines:
        raise SourceError(f"{path}: nothing but blank lines")
    extra = {} if encoding == "utf-8" else {"encoding": encoding}
    if lines[0].lstrip().startswith("{"):
        return _jsonl(path, lines)
    if all(_LIBFM.match(line) for line in lines):
        return _libfm(path, lines)
    return _delimited(path, text, extra)


def _head(path: DataPath) -> tuple[str, str]:
    """Whole lines from the file's start, and their encoding."""
    with open_text(path) as file:
        try:
            data = file.read(_HEAD_BYTES)
        except (EOFError, OSError) as error:
            raise SourceError(f"{path}: damaged gzip file: {error}") from None
    if len(data) == _HEAD_BYTES:
        data = data[: data.rfind(b"\n") + 1] or data
    if b"\x00" in data:
        raise SourceError(f"{path}: not text: it holds zero bytes (UTF-16? Convert it to UTF-8)")
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def _parquet(path: DataPath) -> Sniffed:
    try:
        with parquet_file(path) as file:
            schema = file.schema_arrow
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: not a Parquet file: {error}") from None
    lists, skipped, columns = {}, {}, []
    for column in schema:
        kind = column.type
        inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
        if pa.types.is_nested(inner):
            skipped[column.name] = f"{kind} is not a column of plain values"
            continue
        columns.append(column.name)
        if inner is not kind:
            lists[column.name] = "|"
    return Sniffed({"format": "parquet"}, tuple(columns), lists, skipped)


def _jsonl(path: DataPath, lines: Sequence[str]) -> Sniffed:
    keys: dict[str, None] = {}
    lists, skipped = {}, {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SourceError(f"{path}:{number}: not one JSON object a line: {error}") from None
        for key, value in row.items():
            keys[key] = None
            if isinstance(value, dict) or (
                isinstance(value, list) and any(isinstance(v, dict | list) for v in value)
            ):
                skipped[key] = "holds objects, not plain values"
            elif isinstance(value, list):
                lists[key] = "|"
    return Sniffed({"format": "jsonl"}, tuple(k for k in keys if k not in skipped), lists, skipped)


def _libfm(path: DataPath, lines: Sequence[str]) -> Sniffed:
    counts = Counter(len(line.split()) - 1 for line in lines)
    if len(counts) == 1:
        columns = tuple(f"f{i + 1}" for i in range(next(iter(counts))))
        note = "libfm names no fields: the k-th feature of a row is taken as field k"
    else:
        columns = ("features",)
        note = f"rows have {min(counts)} to {max(counts)} features: taken as one multi-valued field"
    source = {"format": "libfm", "columns": list(columns)}
    lists = {} if len(counts) == 1 else {"features": " "}
    return Sniffed(source, ("label", *columns), lists, {}, (note,))


def _rows(text: str, delimiter: str, quote: str) -> list[list[str]]:
    if len(delimiter) > 1:
        return [line.split(delimiter) for line in text.splitlines() if line][:_HEAD_ROWS]
    options: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **options)
    rows: list[list[str]] = []
    try:
        for row in reader:
            rows += [row] if row else []
            if len(rows) == _HEAD_ROWS:
                break
    except csv.Error:
        return rows
    return rows


def _delimited(path: DataPath, text: str, extra: dict[str, Any]) -> Sniffed:
    best: tuple[float, int, str] = (0.0, 0, "")
    for delimiter in _DELIMITERS:
        widths = Counter(map(len, _rows(text, delimiter, '"')))
        width, rows = max(widths.items(), key=lambda item: (item[1], item[0]))
        share = rows / sum(widths.values())
        if width > 1 and (round(share, 1), width) > (round(best[0], 1), best[1]):
            best = (share, width, delimiter)
    delimiter = best[2]
    if not delimiter:
        raise SourceError(
            f"{path}: neither Parquet, JSON lines, libfm nor text with a delimiter"
            " (tab , ; | :: space): is it a log?"
        )
    quoted = re.search(rf'(^|{re.escape(delimiter)})"', text, re.M) is not None
    source: dict[str, Any] = {"format": "tsv" if delimiter == "\t" else "csv"}
    if delimiter not in "\t,":
        source["delimiter"] = delimiter
    if delimiter == "\t" and quoted:
        source["quote"] = '"'
    rows = _rows(text, delimiter, '"' if quoted or delimiter != "\t" else "")
    notes = ()
    if has_header(rows):
        names = rows[0]
    else:
        names = [f"c{i + 1}" for i in range(best[1])]
        source |= {"header": False, "columns": names}
        notes = ("no header was found: give the columns their names here and below",)
    skipped = {n: "the header names it twice" for n, k in Counter(names).items() if k > 1}
    skipped |= {"": "it has no name"} if "" in names else {}
    columns = tuple(n for n in names if n not in skipped)
    return Sniffed(source | extra, columns, {}, skipped, notes)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """True if the first row names columns: no number in it, and nothing that recurs below it."""
    first, rest = rows[0], rows[1:]
    if not rest or any(_NUMBER.match(cell) for cell in first) or sum(map(bool, first)) < 2:
        return False
    for at, cell in enumerate(first):
        below = [row[at] for row in rest if at < len(row)]
        if cell and cell in below:
            return False
    return True
