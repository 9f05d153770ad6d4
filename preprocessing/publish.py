"""A folder that appears whole or not at all.

On a local disk work goes to a hidden folder beside the target and is put in place by one rename;
where the target exists already the two are exchanged in one step (Linux `renameat2`, macOS
`renamex_np`). So a reader, or a kill -9 at any moment, sees the earlier dataset or the new one.
Every job has a folder of its own, so two jobs with one target cannot mix: the later one to finish
stands.

An object store cannot rename a folder. There the files of each version go to a folder of their
own within the target, and the target's marker (the manifest) is written last, as one object that
says in which folder the files are. Writing one object is atomic, so readers see the earlier
version or the new one; what a killed job left is never named by a marker.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from preprocessing.filesystem import DataPath, remove

_AT_FDCWD = {"linux": -100, "darwin": -2}
_SWAP = 2
# In a marker: the folder, within the target, of the version's files.
FILES_IN = "files_in"
_VERSION = "version-"
_DELETIONS = 10


@contextlib.contextmanager
def staging(target: DataPath, marker: str) -> Iterator[DataPath]:
    """A new folder that takes the place of `target` if the block ends well, else disappears.

    `marker` is the JSON file that makes a folder a result. Raises FileExistsError if `target`
    holds anything but an earlier result.
    """
    if isinstance(target, Path):
        with _renamed(target.absolute(), marker) as folder:
            yield folder
    else:
        with _pointed_to(target, marker) as folder:
            yield folder


@contextlib.contextmanager
def _renamed(target: Path, marker: str) -> Iterator[Path]:
    _check(target, marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    _recover(target)
    aside = _aside(target, "new")
    aside.mkdir()
    try:
        yield aside
        _check(target, marker)
        _put(aside, target)
    finally:
        _discard(aside, target)


def _discard(folder: Path, target: Path) -> None:
    """Deletes a folder to which workers of a lost job may still write: they find it no more."""
    with contextlib.suppress(OSError):
        folder = folder.rename(_aside(target, "gone"))
    # A file whose creation was under way at the rename may still appear behind the deletion.
    for _ in range(_DELETIONS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


@contextlib.contextmanager
def _pointed_to(target: DataPath, marker: str) -> Iterator[DataPath]:
    _check(target, marker)
    folder = target / f"{_VERSION}{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        yield folder
        old = _version(target / marker)
        document = json.loads((folder / marker).read_text())
        with (target / marker).open("wb") as file:
            file.write(json.dumps({FILES_IN: folder.name, **document}, indent=1).encode())
    except BaseException:
        remove(folder)
        raise
    if old:
        remove(target / old)


def _version(marker: DataPath) -> str | None:
    return json.loads(marker.read_text()).get(FILES_IN) if marker.is_file() else None


def _aside(target: Path, kind: str) -> Path:
    name = f".{target.name}.{kind}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return target.with_name(name)


def _check(target: DataPath, marker: str) -> None:
    if target.is_dir() and not (target / marker).is_file():
        left = target.glob("*" if isinstance(target, Path) else "**")
        # Versions without marker are what killed jobs left in an object store.
        if all(_VERSION in str(path.relative_to(target)) for path in left):
            return
        raise FileExistsError(f"{target} exists and is not a prepared dataset: not replaced")
    if target.is_file():
        raise FileExistsError(f"{target} is a file: not replaced")


def _recover(target: Path) -> None:
    """Clears what killed jobs of this machine left; restores a target lost between two renames."""
    mine = f"-{socket.gethostname()}-"
    for left in target.parent.glob(f".{target.name}.*-*-*-*"):
        host_and_pid = left.name.removeprefix(f".{target.name}.")
        if mine not in host_and_pid:
            continue
        pid = host_and_pid.rsplit("-", 2)[1]
        if pid.isdigit() and _alive(int(pid)):
            continue
        if host_and_pid.startswith("old-") and not target.exists():
            left.rename(target)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put(aside: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        aside.rename(target)
    elif not _exchange(aside, target):
        old = _aside(target, "old")
        target.rename(old)
        aside.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swaps two folders in one step; False where the system has no such call."""
    here = _AT_FDCWD.get(sys.platform)
    if here is None:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        call = getattr(library, "renamex_np", None)
        return bool(call) and call(os.fsencode(a), os.fsencode(b), _SWAP) == 0
    call = getattr(library, "renameat2", None)
    return bool(call) and call(here, os.fsencode(a), here, os.fsencode(b), _SWAP) == 0
