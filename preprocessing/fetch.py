"""Getting public datasets: from the publisher, checked, kept in a cache outside the project."""

from __future__ import annotations

import hashlib
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
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from preprocessing.errors import SourceError
from preprocessing.filesystem import cache_folder
from preprocessing.presets import movielens_100k
from preprocessing.spec_errors import near

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_RECBOLE = "recbole==1.2.1"
_PIP_SECONDS = 120
# Presets that differ in what they do with the same files.
_SAME_FILES = {"movielens-1m-ids": "movielens-1m"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """A publisher's zip file: its MD5 as the publisher states it, and what is taken out of it."""

    name: str
    md5: str
    folder: str
    files: tuple[str, ...]


_ARCHIVES = {
    "movielens-1m": Archive(
        "ml-1m.zip",
        "c4d9eecfca2ab87c1945afe126590906",
        "ml-1m/",
        ("ratings.dat", "users.dat", "movies.dat", "README"),
    ),
    "movielens-tag": Archive(
        "ml-10m.zip",
        "ce571fd55effeba0271552578f2648bd",
        "ml-10M100K/",
        ("tags.dat", "README.html"),
    ),
}


def fetchable() -> list[str]:
    """Datasets that `fetch` knows."""
    return sorted({"movielens-100k", *_ARCHIVES, *_SAME_FILES})


def fetch(
    name: str,
    folder: Path | None = None,
    timeout: float = 5.0,
    say: Say = lambda _: None,
) -> Path:
    """The folder with a dataset's files, downloaded unless it is there already.

    `timeout` (seconds) is how long the publisher may be silent. `say` is told what happens.
    Raises SourceError if the dataset is unknown, or no source answers with the right content.
    """
    if name not in fetchable():
        raise SourceError(f"nothing to fetch for '{name}'{near(name, fetchable())}; use --data")
    name = _SAME_FILES.get(name, name)
    home = (folder or cache_folder()) / name
    if home.is_dir():
        say(f"{name} is in {home}")
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{name}-") as scratch:
        if name in _ARCHIVES:
            found = _whole_archive(name, _ARCHIVES[name], Path(scratch), timeout, say)
        else:
            found = _movielens_100k(Path(scratch), timeout, say)
        try:
            found.rename(home)
        except OSError:
            if not home.is_dir():
                raise
    return home


def _whole_archive(name: str, archive: Archive, scratch: Path, timeout: float, say: Say) -> Path:
    try:
        path = _download(archive.name, scratch, timeout, say)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != archive.md5:
            raise SourceError(f"its MD5 is {digest}, not {archive.md5}")
        return _unzip(path, archive.folder, archive.files, scratch / "own")
    except (OSError, SourceError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{name} could not be fetched ({_GROUPLENS}/{archive.name}:"
            f" {str(error).splitlines()[0]}); unzip {archive.name} yourself and give its folder"
            " with --data"
        ) from None


def _movielens_100k(scratch: Path, timeout: float, say: Say) -> Path:
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


def _download(name: str, scratch: Path, timeout: float, say: Say) -> Path:
    url = f"{_GROUPLENS}/{name}"
    say(f"asking {url}")
    with _open(url, timeout) as answer, (scratch / name).open("wb") as file:
        shutil.copyfileobj(answer, file)
    return scratch / name


def _from_grouplens(scratch: Path, timeout: float, say: Say) -> Path:
    archive = _download("ml-100k.zip", scratch, timeout, say)
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


def _from_recbole(scratch: Path, timeout: float, say: Say) -> Path:
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
