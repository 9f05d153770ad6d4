"""Getting public datasets: from the publisher, checked, kept in a cache outside the project."""

from __future__ import annotations

import importlib.util
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from preprocessing.errors import SourceError
from preprocessing.filesystem import cache_folder
from preprocessing.presets import movielens_100k
from preprocessing.spec_errors import near

_GROUPLENS = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_RECBOLE = "recbole==1.2.1"
_PIP_SECONDS = 120


def fetchable() -> list[str]:
    """Datasets that `fetch` knows."""
    return sorted(_RECIPES)


def fetch(
    name: str,
    folder: Path | None = None,
    timeout: float = 5.0,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """The folder with a dataset's files, downloaded unless it is there already.

    `timeout` (seconds) is how long the publisher may be silent. `say` is told what happens.
    Raises SourceError if the dataset is unknown, or no source answers with the right content.
    """
    if name not in _RECIPES:
        raise SourceError(f"nothing to fetch for '{name}'{near(name, _RECIPES)}; use --data")
    home = (folder or cache_folder()) / name
    if home.is_dir():
        say(f"{name} is in {home}")
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{name}-") as scratch:
        found = _RECIPES[name](Path(scratch), timeout, say)
        try:
            found.rename(home)
        except OSError:
            if not home.is_dir():
                raise
    return home


def _movielens_100k(scratch: Path, timeout: float, say: Callable[[str], None]) -> Path:
    problems = []
    for source in (_from_grouplens, _from_recbole):
        try:
            found = source(scratch, timeout, say)
            digest = movielens_100k.content_hash(found)
            if digest != movielens_100k.CONTENT:
                raise SourceError(f"SHA-256 of the rows is {digest}, not {movielens_100k.CONTENT}")
            return found
        except (OSError, SourceError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            problems.append(f"{source.__name__[6:]}: {str(error).splitlines()[0]}")
            say(f"no luck with {problems[-1]}")
    raise SourceError(
        "movielens-100k could not be fetched (" + "; ".join(problems) + "); unzip ml-100k.zip"
        " yourself and give its folder with --data"
    )


def _from_grouplens(scratch: Path, timeout: float, say: Callable[[str], None]) -> Path:
    say(f"asking {_GROUPLENS}")
    archive = scratch / "ml-100k.zip"
    with _open(_GROUPLENS, timeout) as answer, archive.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return _unzip(archive, "ml-100k/", ("u.data", "u.user", "u.item", "README"), scratch / "own")


def _open(url: str, timeout: float) -> BinaryIO:
    """The answer to a request, or an OSError after `timeout` seconds, name lookup included."""
    found: queue.Queue[BinaryIO | OSError] = queue.Queue()

    def ask() -> None:
        try:
            found.put(urllib.request.urlopen(url, timeout=timeout))
        except OSError as error:
            found.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = found.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _from_recbole(scratch: Path, timeout: float, say: Callable[[str], None]) -> Path:
    say(f"taking the copy inside the wheel {_RECBOLE} (unzipped, not installed)")
    pip = _pip()
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command = [*pip, "download", *quiet, "--dest", str(scratch), _RECBOLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        raise SourceError(f"pip download {_RECBOLE}: {lines[-1]}")
    names = ("ml-100k.inter", "ml-100k.user", "ml-100k.item")
    return _unzip(wheels[0], "recbole/dataset_example/ml-100k/", names, scratch / "wheel")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for command in (["pip3"], ["pip"], ["uvx", "pip"]):
        if shutil.which(command[0]):
            return command
    raise SourceError("no pip here to download with")


def _unzip(archive: Path, prefix: str, names: tuple[str, ...], target: Path) -> Path:
    target.mkdir()
    with zipfile.ZipFile(archive) as file:
        for name in names:
            try:
                content = file.read(prefix + name)
            except KeyError:
                raise SourceError(f"{archive.name} holds no {prefix}{name}") from None
            (target / name).write_bytes(content)
    return target


_RECIPES: dict[str, Callable[[Path, float, Callable[[str], None]], Path]] = {
    "movielens-100k": _movielens_100k,
}
