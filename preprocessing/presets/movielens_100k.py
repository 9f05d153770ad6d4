"""MovieLens 100K: ratings joined with user and film attributes, from either published form.

GroupLens's own files (u.data, u.user, u.item) and RecBole's copies of them (ml-100k.inter, .user,
.item) hold the same facts in other notations; `read` gives the same rows in the same order for
both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from preprocessing.errors import SourceError

# SHA-256 of all rows as `content_hash` writes them.
CONTENT = "6fce8244b4f80b57dc17143a5694d5f2c2f39faee823ed4765e34d1fc444287d"
_GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
_COLUMNS = [
    "user_id",
    "item_id",
    "rating",
    "timestamp",
    "age",
    "gender",
    "occupation",
    "zip",
    "release_year",
    "genres",
    "title",
]
_YEAR = re.compile(r"\((\d{4})\)")


def read(root: Path) -> Iterator[pa.RecordBatch]:
    """All ratings in the files' order, one batch of text columns.

    Raises SourceError if `root` (or a folder in it) holds neither form.
    """
    for home in (root, root / "ml-100k"):
        if (home / "u.data").is_file():
            ratings = _lines(home / "u.data", "\t")
            users = {u[0]: u[1:5] for u in _lines(home / "u.user", "|")}
            items = {i[0]: _grouplens_item(i) for i in _lines(home / "u.item", "|", "latin-1")}
            break
        if (home / "ml-100k.inter").is_file():
            ratings = _lines(home / "ml-100k.inter", "\t")[1:]
            users = {u[0]: u[1:5] for u in _lines(home / "ml-100k.user", "\t")[1:]}
            items = {i[0]: _recbole_item(i) for i in _lines(home / "ml-100k.item", "\t")[1:]}
            break
    else:
        raise SourceError(f"{root}: neither u.data nor ml-100k.inter here")
    try:
        rows = [(*r[:4], *users[r[0]], *items[r[1]]) for r in ratings]
    except KeyError as error:
        raise SourceError(f"{home}: a rating names {error}, whom no other file knows") from None
    columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
    yield pa.RecordBatch.from_arrays(columns, names=_COLUMNS)


def content_hash(root: Path) -> str:
    """SHA-256 of all rows but the film titles (their notation differs), tab-separated."""
    digest = hashlib.sha256()
    for batch in read(root):
        for row in zip(*(batch.column(c).to_pylist() for c in _COLUMNS[:-1]), strict=True):
            digest.update(("\t".join(row) + "\n").encode())
    return digest.hexdigest()


def _lines(path: Path, separator: str, encoding: str = "utf-8") -> list[list[str]]:
    try:
        text = path.read_text(encoding=encoding)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {error}") from None
    return [line.split(separator) for line in text.split("\n") if line.strip()]


def _grouplens_item(item: list[str]) -> tuple[str, str, str]:
    years = _YEAR.findall(item[1])
    flags = zip(_GENRES, item[5:24], strict=True)
    genres = "|".join(genre for genre, flag in flags if flag.strip() == "1")
    return (years[-1] if years else "", genres, _YEAR.sub("", item[1]).strip())


def _recbole_item(item: list[str]) -> tuple[str, str, str]:
    # One film's year is the `V` of "(1995) (V)" here: then the year is still in its title.
    years = [item[2]] if re.fullmatch(r"\d{4}", item[2]) else _YEAR.findall(item[1])
    return (years[-1] if years else "", "|".join(item[3].split()), _YEAR.sub("", item[1]).strip())
