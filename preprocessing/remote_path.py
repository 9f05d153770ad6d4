"""A path with a scheme, with pathlib's methods, by Beam's FileSystems."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import io
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems

# Scheme -> the extra of apache-beam that serves it, and a module that extra brings.
_EXTRAS = {
    "gs": ("gcp", "google.cloud.storage"),
    "s3": ("aws", "boto3"),
    "azfs": ("azure", "azure.storage.blob"),
}


@dataclass(frozen=True, order=True)
class RemotePath:
    """The part of pathlib.Path's interface this room uses, for a path with a scheme."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, other: str | os.PathLike[str]) -> RemotePath:
        part = os.fspath(other)
        if FileSystems.get_scheme(part) or part.startswith("/"):
            raise ValueError(f"{part}: expected a path relative to {self.url}")
        part = posixpath.normpath(part)
        return self if part == "." else RemotePath(f"{self.url.rstrip('/')}/{part}")

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rsplit("/", 1)[1]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rstrip("/").rsplit("/", 1)[0])

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.with_name(str(Path(self.name).with_suffix(suffix)))

    def absolute(self) -> RemotePath:
        return self

    def is_relative_to(self, root: object) -> bool:
        return f"{self}/".startswith(f"{str(root).rstrip('/')}/")

    def relative_to(self, root: object) -> Path:
        if not self.is_relative_to(root):
            raise ValueError(f"{self} is not under {root}")
        return Path(self.url[len(str(root).rstrip("/")) + 1 :])

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return self._size() is not None

    def is_dir(self) -> bool:
        """True if there is a file under this name and a slash: object stores know no folders."""
        return any(True for _ in self._beneath(1))

    def stat(self) -> os.stat_result:
        """Only `st_size` is of use."""
        size = self._size()
        if size is None:
            raise FileNotFoundError(2, "No such file or directory", self.url)
        return os.stat_result((0, 0, 0, 0, 0, 0, size, 0, 0, 0))

    def open(
        self, mode: str = "rb", encoding: str | None = None, newline: str | None = None
    ) -> Any:
        """A binary or text file, never decompressed on the way."""
        if "w" not in mode:
            self.stat()
        make = FileSystems.create if "w" in mode else FileSystems.open
        with _told(self.url):
            file = make(self.url, compression_type=CompressionTypes.UNCOMPRESSED)
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", newline=newline)

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes a folder where the file system has such a thing."""
        with _told(self.url):
            system = FileSystems.get_filesystem(self.url)
            if system.has_dirs() and not system.exists(self.url):
                system.mkdirs(self.url)

    def replace(self, target: RemotePath) -> RemotePath:
        """Moves one file (an object store copies it), over an earlier one."""
        with _told(self.url):
            system = FileSystems.get_filesystem(self.url)
            if system.has_dirs() and target.is_file():
                system.delete([str(target)])
            system.rename([self.url], [str(target)])
        return target

    rename = replace

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok or self.is_file():
            with _told(self.url):
                FileSystems.delete([self.url])

    def rmtree(self) -> None:
        """Deletes everything beneath."""
        below = [str(path) for path in self.rglob("*")]
        with _told(self.url):
            has_dirs = FileSystems.get_filesystem(self.url).has_dirs()
            if below:
                FileSystems.delete([self.url] if has_dirs else below)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Files that match, in order of their names; `**` is any number of folders."""
        # Beam's translation of each part, without its flags and its end of text.
        parts = [FileSystem.translate_pattern(part)[5:-2] for part in pattern.split("**/")]
        match = re.compile("(?:.*/)?".join(parts), re.S).fullmatch
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        for path in (self / prefix).rglob("*"):
            if match(path.relative_to(self).as_posix()):
                yield path

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """All files beneath whose names match, in order of their paths."""
        found = [RemotePath(data.path) for data in self._beneath(None)]
        for path in sorted(found, key=lambda p: p.url.split("/")):
            if fnmatch.fnmatch(path.name, pattern):
                yield path

    def iterdir(self) -> Iterator[RemotePath]:
        return self.glob("*")

    def _beneath(self, limit: int | None) -> Any:
        with _told(self.url):
            found = FileSystems.match([f"{self.url.rstrip('/')}/**"], [limit])
        return found[0].metadata_list

    def _size(self) -> int | None:
        with _told(self.url):
            system = FileSystems.get_filesystem(self.url)
            if not system.exists(self.url):
                return None
            try:
                return system.metadata(self.url).size_in_bytes
            except BeamIOError:  # a folder, where there are folders
                return None

    @classmethod
    def checked(cls, url: str) -> RemotePath:
        """Raises ValueError for a scheme that no installed file system serves."""
        scheme = FileSystems.get_scheme(url) or ""
        known = {system.scheme() for system in FileSystem.get_all_subclasses()} - {None}
        if scheme not in known:
            shown = ", ".join(f"{name}://" for name in sorted(known))
            raise ValueError(f"{url}: no file system for {scheme}://, only for {shown}")
        extra, module = _EXTRAS.get(scheme, ("", "apache_beam"))
        if not _installed(module):
            raise ValueError(f'{url}: {scheme}:// needs: pip install "apache-beam[{extra}]"')
        return cls(url.rstrip("/"))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """One OSError with the path, whatever class of error a store's client raises."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        causes = getattr(error, "exception_details", None) or {url: error}
        cause = next(iter(causes.values()))
        first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise OSError(f"{url}: {first}") from error
