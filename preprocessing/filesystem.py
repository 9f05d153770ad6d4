"""Where data lies: local folders, and whatever Beam's FileSystems reach (gs://, s3://, hdfs://).

`path_of` gives a `pathlib.Path` for a local path and a `RemotePath` for one with a scheme. Both
have the methods this room uses, so no other file asks which it has. Object stores have no folders
and rename a file by copying it; what that changes is said once, here and in publish.py.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
import tempfile
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from preprocessing.remote_path import RemotePath

DataPath: TypeAlias = "Path | RemotePath"
_SCHEME = re.compile(r"^[a-zA-Z][-a-zA-Z0-9+.]*://[^/]*")
_MAGIC = re.compile(r"[*?\[]")
_COPY_BYTES = 8 << 20


def path_of(path: str | DataPath) -> DataPath:
    """A path to data. Raises ValueError for a scheme that no installed file system serves."""
    if not isinstance(path, str):
        return path
    if not _SCHEME.match(path):
        return Path(path)
    # Imported here because it brings Beam, which training on local files does not need.
    from preprocessing.remote_path import RemotePath

    return RemotePath.checked(path)


def cache_folder() -> Path:
    """`CTR_DATA`, or this platform's cache directory."""
    if os.environ.get("CTR_DATA"):
        return Path(os.environ["CTR_DATA"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ctr"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "ctr"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctr"


def matching(root: DataPath, pattern: str) -> list[DataPath]:
    """Files that a name, a glob or a folder relative to `root` stands for, in a fixed order.

    A pattern with a scheme or a leading slash stands for itself. Of a folder: all visible files.
    """
    if start := _SCHEME.match(pattern):
        root, pattern = path_of(start[0]), pattern[start.end() :].lstrip("/")
    if not _MAGIC.search(pattern) or (isinstance(root, Path) and (root / pattern).exists()):
        path = root / pattern
        if path.is_file():
            return [path]
        return sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] not in "._")
    if isinstance(root, Path):
        found = glob.iglob(str(root / pattern), recursive=True)  # noqa: PTH207  (skips hidden)
        return sorted(Path(p) for p in found if Path(p).is_file())
    return [p for p in root.glob(pattern) if p.name[0] != "."]


@contextlib.contextmanager
def writing(path: DataPath) -> Iterator[BinaryIO]:
    """A binary file that appears under its name when the block ends well, else not at all.

    So two attempts of a runner at the same work, even at the same time, leave one whole file.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            if isinstance(aside, Path):
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_bytes(path: DataPath, data: bytes) -> None:
    """A whole file, or none."""
    with writing(path) as file:
        file.write(data)


def write_text(path: DataPath, text: str) -> None:
    """A whole file in UTF-8, or none."""
    write_bytes(path, text.encode())


def read_table(path: DataPath) -> pa.Table:
    """A Parquet file."""
    with path.open("rb") as file:
        return pq.read_table(file)


@contextlib.contextmanager
def parquet_file(path: DataPath) -> Iterator[pq.ParquetFile]:
    """A Parquet file opened for reading in parts; Arrow opens a local one by itself, faster."""
    with contextlib.ExitStack() as held:
        file = path if isinstance(path, Path) else held.enter_context(path.open("rb"))
        yield held.enter_context(pq.ParquetFile(file))


def write_table(table: pa.Table, path: DataPath) -> None:
    """A whole Parquet file, or none."""
    with writing(path) as file:
        pq.write_table(table, file)


def remove(folder: DataPath) -> None:
    """Deletes a folder and all in it, if it is there."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.rmtree()


def copy(source: DataPath, target: DataPath) -> None:
    """Copies a folder's files, from anywhere to anywhere."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            there = target / path.relative_to(source).as_posix()
            there.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as file, writing(there) as out:
                shutil.copyfileobj(file, out, _COPY_BYTES)


@contextlib.contextmanager
def local_folder(folder: DataPath) -> Iterator[Path]:
    """A local folder whose files are in `folder` when the block ends well.

    TensorFlow writes graphs and assets to local folders only; a local `folder` is given as it is.
    """
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        copy(Path(scratch), folder)


def local_copy(path: DataPath, home: Path) -> Path:
    """The same file or folder on this machine: itself, or a copy in `home`, made once."""
    if isinstance(path, Path):
        return path
    target = home / urllib.parse.quote(str(path), safe="")
    if not target.exists():
        home.mkdir(parents=True, exist_ok=True)
        aside = home / f"{uuid.uuid4().hex[:12]}.part"
        if path.is_file():
            with path.open("rb") as file, aside.open("wb") as out:
                shutil.copyfileobj(file, out, _COPY_BYTES)
        else:
            copy(path, aside)
        with contextlib.suppress(OSError):  # another process was first
            aside.rename(target)
    return target
