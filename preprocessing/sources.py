"""From files to Arrow: which blocks of work there are, and how to read one of them.

`plan` cuts the files into blocks at row boundaries. The cut depends only on the files and the
spec's `block_bytes`, never on the runner. `read` turns one block into `Chunk`s: a RecordBatch with
the wanted columns (text as `s:<column>`, a dictionary; numbers as `n:<column>`, float32 with null
for missing), the place of each row in its file, and the rows it had to reject, with the reason.
A row's address is (file, place), however the file is cut.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from preprocessing import byte_blocks, columnar
from preprocessing.delimited import read_csv, read_header, read_jsonl, read_libfm
from preprocessing.errors import SourceError
from preprocessing.filesystem import DataPath, local_copy, matching, path_of
from preprocessing.schema import DatasetSpec, FilesSplit, Source
from preprocessing.spec_errors import near


@dataclass(frozen=True)
class Block:
    """A run of whole rows of one file: byte range, row groups, or all of it."""

    path: str
    name: str
    ordinal: int
    start: int = 0
    stop: int | None = None
    row_groups: tuple[int, ...] = ()
    split: str | None = None

    @property
    def key(self) -> str:
        """A stable name: the file's name within the data folder and the block's number."""
        return f"{self.name}#{self.ordinal}"


@dataclass(frozen=True)
class Wanted:
    """The columns a job needs from its source; `lists` gives separators for list values."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    lists: Mapping[str, str] = field(default_factory=dict)

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.texts, *self.numbers)))


@dataclass
class Chunk:
    """Some rows in order, the rejected ones as (reason, row text), and where the rows stand.

    `places` (B,): the first byte of the row in the (decompressed) text file, else its number.
    """

    batch: pa.RecordBatch
    rejected: list[tuple[str, str]]
    places: np.ndarray


def expand(patterns: Sequence[str], root: DataPath) -> list[DataPath]:
    """Files, globs and folders (all visible files in them) relative to `root`, in a fixed order.

    Raises FileNotFoundError naming the pattern that matches nothing.
    """
    found: list[DataPath] = []
    for pattern in patterns:
        hits = matching(root, pattern)
        if not hits:
            raise FileNotFoundError(f"no file matches '{pattern}' in {root}")
        found += [p for p in hits if p not in found]
    return found


def files_of(spec: DatasetSpec, root: DataPath) -> list[tuple[DataPath, str | None]]:
    """(file, split it is given to or None) of a spec, in a fixed order."""
    if isinstance(spec.split, FilesSplit):
        given = []
        for split in ("train", "validation", "test"):
            patterns = getattr(spec.split, split)
            given += [(p, split) for p in (expand(patterns, root) if patterns else [])]
        return given
    if spec.source.format == "python":
        return [(root, None)]
    return [(p, None) for p in expand(spec.source.files, root)]


def plan(spec: DatasetSpec, root: DataPath) -> list[Block]:
    """Cuts all files into blocks. Raises SourceError for a file that is empty or lacks a column."""
    blocks: list[Block] = []
    wanted = wanted_columns(spec)
    for path, split in files_of(spec, root):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        if spec.source.format == "parquet":
            pieces = columnar.parquet_pieces(path, wanted.all, spec.source.block_bytes)
            blocks += [
                Block(str(path), name, i, row_groups=groups, split=split)
                for i, groups in enumerate(pieces)
            ]
        elif spec.source.format == "python":
            blocks.append(Block(str(path), spec.source.module or "", 0, split=split))
        else:
            ranges = _text_ranges(path, spec.source, wanted)
            blocks += [
                Block(str(path), name, i, start, stop, split=split)
                for i, (start, stop) in enumerate(ranges)
            ]
    if not blocks:
        raise SourceError(f"no rows in {files_of(spec, root)[0][0]}: nothing after the header")
    return blocks


def _text_ranges(path: DataPath, source: Source, wanted: Wanted) -> list[tuple[int, int | None]]:
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    start = 0
    if source.format in ("csv", "tsv"):
        names, start = read_header(path, source)
        check_columns(path, wanted.all, names)
    elif source.format == "libfm":
        check_columns(path, wanted.all, ("label", *(source.columns or ())))
    if byte_blocks.is_gzip(path):
        return [(start, None)]
    quote = source.quote_character if source.format in ("csv", "tsv") else ""
    return byte_blocks.ranges(path, start, source.block_bytes, quote)


def check_columns(path: DataPath | str, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raises SourceError naming the first wanted column that `known` lacks."""
    for column in wanted:
        if column not in known:
            shown = ", ".join(map(str, known[:12])) + (", ..." if len(known) > 12 else "")
            raise SourceError(
                f"{path}: no column '{column}'{near(column, known)}; columns are {shown}"
            )


def wanted_columns(spec: DatasetSpec) -> Wanted:
    """Every source column the spec mentions, by the type it is read as."""
    kinds = spec.columns()
    texts = [c for c, kind in kinds.items() if kind == "string"]
    numbers = [c for c, kind in kinds.items() if kind == "float32"]
    texts += [c for c in (spec.label.column, spec.group) if c]
    texts += list(getattr(spec.split, "key", ()))
    texts += [spec.split.column] if spec.split.kind == "column" else []
    texts += [spec.negatives.column, *spec.negatives.key] if spec.negatives else []
    numbers += [spec.weight] if spec.weight else []
    lists = {f.column or f.name: f.separator for f in spec.fields if f.kind == "multivalued"}
    return Wanted(tuple(dict.fromkeys(texts)), tuple(dict.fromkeys(numbers)), lists)


def read(block: Block, source: Source, wanted: Wanted) -> Iterator[Chunk]:
    """The rows of one block, in order, as chunks of some ten thousand rows."""
    path = path_of(block.path)
    if source.format == "parquet":
        parts = columnar.read_parquet(path, block.row_groups, wanted)
    elif source.format == "python":
        module = importlib.import_module(f"preprocessing.presets.{source.module}")
        parts = columnar.convert_all(_python_rows(module, path, source), wanted, path)
    else:
        quote = source.quote_character if source.format in ("csv", "tsv") else ""
        pieces = byte_blocks.chunks(path, block.start, block.stop, quote)
        reader = {"libfm": read_libfm, "jsonl": read_jsonl}.get(source.format, read_csv)
        parts = reader(pieces, path, source, wanted)
    for batch, rejected, places in parts:
        yield Chunk(batch, rejected, places)


def _python_rows(module: ModuleType, path: DataPath, source: Source) -> Iterator[pa.RecordBatch]:
    """A preset's own reader, which knows local folders only."""
    with tempfile.TemporaryDirectory() as scratch:
        yield from module.read(local_copy(path, Path(scratch)), *source.files)
