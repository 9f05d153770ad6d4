"""Text files cut at row boundaries: blocks for workers, and chunks within a block.

A newline inside quotes does not end a row. Quotes come in pairs (a doubled quote within a quoted
value counts twice), so a newline ends a row exactly where the number of quotes before it is even.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from preprocessing.errors import SourceError
from preprocessing.filesystem import DataPath

CHUNK_BYTES = 8 << 20
LONGEST_ROW = 256 << 20
_WINDOW = 1 << 16
_LF, _CR = 10, 13
Piece = tuple[int, bytes]
_GZIP = b"\x1f\x8b"


def is_gzip(path: DataPath) -> bool:
    """By the file's first bytes, not by its name."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


@contextlib.contextmanager
def open_text(path: DataPath) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed."""
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        yield gzip.GzipFile(fileobj=file) if zipped else file


def ranges(path: DataPath, start: int, size: int, quote: str) -> list[tuple[int, int | None]]:
    """Byte ranges of about `size` bytes that begin and end at row ends."""
    total = path.stat().st_size
    if total <= start:
        return []
    edges = [start]
    odd = False
    with path.open("rb") as file:
        while edges[-1] + size < total:
            if quote:
                file.seek(edges[-1])
                odd = _odd_quotes(file, size, quote.encode())
            edge = _next_row(file, edges[-1] + size, odd, quote.encode())
            if edge is None or edge >= total:
                break
            edges.append(edge)
    return list(zip(edges, [*edges[1:], total], strict=True))


def _odd_quotes(file: BinaryIO, length: int, quote: bytes) -> bool:
    count = 0
    while length > 0 and (piece := file.read(min(length, CHUNK_BYTES))):
        count += piece.count(quote)
        length -= len(piece)
    return count % 2 == 1


def _next_row(file: BinaryIO, position: int, odd: bool, quote: bytes) -> int | None:
    """First row start after the first row end at or behind `position` - 1."""
    if not quote:
        position -= 1
    file.seek(position)
    while window := file.read(_WINDOW):
        ends = np.flatnonzero(np.frombuffer(window, np.uint8) == _LF)
        if quote:
            before = _quotes_before(window, ends, quote) + odd
            ends = ends[before % 2 == 0]
            odd ^= window.count(quote) % 2 == 1
        if len(ends):
            return position + int(ends[0]) + 1
        position += len(window)
    return None


def _quotes_before(data: bytes, positions: np.ndarray, quote: bytes) -> np.ndarray:
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == quote[0])
    return np.searchsorted(quotes, positions)


def chunks(path: DataPath, start: int, stop: int | None, quote: str) -> Iterator[Piece]:
    """The bytes of a range in pieces of whole rows, with their place in the (decompressed) file.

    Raises SourceError if a row is absurdly long, which is what an unbalanced quote looks like.
    """
    with open_text(path) as file:
        file.seek(start)
        left = (stop - start) if stop is not None else None
        rest = b""
        place = start
        try:
            while left is None or left > 0:
                piece = file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
                if not piece:
                    break
                left = None if left is None else left - len(piece)
                rest += piece
                cut = _last_row_end(rest, quote.encode())
                if cut:
                    yield place, rest[:cut]
                    place, rest = place + cut, rest[cut:]
                elif len(rest) > LONGEST_ROW:
                    raise SourceError(
                        f"{path}: a row of over {LONGEST_ROW >> 20} MB; is a quote open?"
                    )
        except (EOFError, gzip.BadGzipFile) as error:
            raise SourceError(f"{path}: damaged gzip file: {error}") from None
        if rest.strip(b"\r\n"):
            yield place, rest


def _last_row_end(data: bytes, quote: bytes) -> int:
    if not quote or quote not in data:
        return data.rfind(b"\n") + 1
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _LF)
    ends = ends[_quotes_before(data, ends, quote) % 2 == 0]
    return int(ends[-1]) + 1 if len(ends) else 0


def row_starts(data: bytes, quote: str, rows: int) -> np.ndarray:
    """Where each of the `rows` rows in `data` begins; blank lines are none.

    A stray quote inside a value is a plain character to Arrow, which hides row ends from the rule
    of pairs: then every line counts as a row. If that does not explain `rows` either, they are
    simply numbered.
    """
    found = _starts(data, quote.encode())
    if len(found) != rows and quote:
        found = _starts(data, b"")
    return found if len(found) == rows else np.arange(rows)


def _starts(data: bytes, quote: bytes) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw == _LF)
    returns = b"\r" in data
    if returns:
        alone = raw == _CR
        alone[:-1] &= raw[1:] != _LF
        ends = np.union1d(ends, np.flatnonzero(alone))
    if quote and quote in data:
        ends = ends[_quotes_before(data, ends, quote) % 2 == 0]
    starts = np.concatenate([[0], ends + 1])
    stops = np.concatenate([ends, [len(raw)]])
    if returns:
        stops -= (stops > starts) & (raw[np.maximum(stops, 1) - 1] == _CR)
    return starts[stops > starts]
