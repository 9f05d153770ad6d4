"""Files that are whole or absent: written aside, flushed, then renamed."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it there when the block succeeds.

    On an error (a full disk, say) the file written aside is removed and `path` stays as it was; an
    OSError that names no file gets its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last because Keras and NumPy choose the format by it.
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield aside
        with aside.open("rb") as handle:
            os.fsync(handle.fileno())
        aside.replace(path)
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds off other processes that want to read and replace `path` in this way.

    The folder is locked and not the file: a rename puts another file in its place.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def fill_marks(text: str, marks: tuple[str, str], inner: str, where: Path) -> str:
    """`text` with what stands between two marks replaced.

    Raises:
        PipelineError: a mark is missing from `where`, the file that `text` is of.
    """
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise PipelineError(f"{where}: expected the marks {' and '.join(marks)} around the tables")
    return f"{before}{begin}\n\n{inner}\n{end}{after}"
