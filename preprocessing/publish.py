"""A folder that appears whole or not at all.

Work goes to a hidden folder beside the target and is put in place by one rename; where the target
exists already the two are exchanged in one step (Linux `renameat2`, macOS `renamex_np`). So a
reader, or a kill -9 at any moment, sees the earlier dataset or the new one. Every job has a
folder of its own, so two jobs with one target cannot mix: the later one to finish stands.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD = {"linux": -100, "darwin": -2}
_SWAP = 2


@contextlib.contextmanager
def staging(target: Path, marker: str) -> Iterator[Path]:
    """A new folder that takes the place of `target` if the block ends well, else disappears.

    Raises FileExistsError if `target` holds anything but an earlier result (with a file `marker`).
    """
    target = target.absolute()
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
        shutil.rmtree(aside, ignore_errors=True)


def _aside(target: Path, kind: str) -> Path:
    name = f".{target.name}.{kind}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return target.with_name(name)


def _check(target: Path, marker: str) -> None:
    if target.exists() and not (target / marker).is_file():
        if target.is_dir() and not any(target.iterdir()):
            return
        raise FileExistsError(f"{target} exists and is not a prepared dataset: not replaced")


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
