"""MovieLens tag applications: tags.dat, `user::film::tag::time`, every row a positive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from preprocessing.errors import SourceError

_BATCH = 65_536


def read(root: Path) -> Iterator[pa.RecordBatch]:
    """All tag applications in the file's order, as batches of text columns.

    Raises SourceError for a missing file or a line that does not parse.
    """
    path = root / "tags.dat"
    if not path.is_file():
        raise SourceError(f"{path}: no such file; movielens-tag needs it")
    rows: list[tuple[str, str, str]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            # A tag may itself hold `::`: user and film stand before it, the time after it.
            head = line.rstrip("\r\n").split("::", 2)
            if len(head) < 3 or "::" not in head[2]:
                raise SourceError(f"{path}:{number}: expected user::film::tag::time, got {line!r}")
            rows.append((head[0], head[1], head[2].rsplit("::", 1)[0]))
            if len(rows) == _BATCH:
                yield _batch(rows)
                rows = []
    if rows:
        yield _batch(rows)


def _batch(rows: list[tuple[str, str, str]]) -> pa.RecordBatch:
    columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=["user", "film", "tag"])
