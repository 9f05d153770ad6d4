"""MovieLens 1M: ratings joined with user and film attributes (`::` between columns).

A film's release time is its decade up to 1969 and its year from 1970, as in the programs of
AutoInt, Fi-GNN and GraphFM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from preprocessing.errors import SourceError

_COLUMNS = (
    "user_id",
    "film_id",
    "rating",
    "timestamp",
    "gender",
    "age",
    "occupation",
    "zip",
    "release_time",
    "genres",
)
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_BATCH = 65_536


def read(root: Path, ratings: str = "ratings.dat") -> Iterator[pa.RecordBatch]:
    """Ratings in the file's order as batches of text columns; no time stamp reads as missing.

    Args:
        root: folder with users.dat, movies.dat and the ratings.
        ratings: name of the ratings file.

    Raises SourceError for a file that is missing or a line that does not parse.
    """
    users = {row[0]: tuple(row[1:5]) for _, row in _lines(root / "users.dat", 5)}
    films = {row[0]: (_release_time(row[1]), row[2]) for _, row in _lines(root / "movies.dat", 3)}
    rows: list[tuple[str, ...]] = []
    for number, row in _lines(root / ratings, 3):
        try:
            joined = (*row[:3], row[3] if len(row) > 3 else "", *users[row[0]], *films[row[1]])
        except KeyError as error:
            raise SourceError(
                f"{root / ratings}:{number}: {error} is in neither users.dat nor movies.dat"
            ) from None
        rows.append(joined)
        if len(rows) == _BATCH:
            yield _batch(rows)
            rows = []
    if rows:
        yield _batch(rows)


def _batch(rows: list[tuple[str, ...]]) -> pa.RecordBatch:
    columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=list(_COLUMNS))


def _lines(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    if not path.is_file():
        raise SourceError(f"{path}: no such file; movielens-1m needs it")
    # ISO-8859-1, as the publisher says: film titles hold accents.
    with path.open(encoding="latin-1") as file:
        for number, line in enumerate(file, start=1):
            row = line.rstrip("\r\n").split("::")
            if len(row) < columns:
                raise SourceError(
                    f"{path}:{number}: expected at least {columns} columns, got {len(row)}"
                )
            yield number, row


def _release_time(title: str) -> str:
    found = _YEAR.search(title)
    if not found:
        return ""
    year = int(found[1])
    return f"{year // 10 * 10}s" if year < 1970 else str(year)
