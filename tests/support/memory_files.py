"""An object store in memory for Beam's FileSystems, under `mem://`: flat names, no folders.

Importing this module registers it. As in a real store, an object is visible when its writer is
closed, and `rename` copies.
"""

import io
import time

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

OBJECTS: dict[str, bytes] = {}
CALLS: list[tuple[str, str]] = []


class _Writer(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            OBJECTS[self._path] = self.getvalue()
            CALLS.append(("create", self._path))
        super().close()


class MemoryFileSystem(FileSystem):
    """All objects in one dictionary."""

    @classmethod
    def scheme(cls):
        return "mem"

    def has_dirs(self):
        return False

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return path.rsplit("/", 1)

    def mkdirs(self, path):
        raise BeamIOError("an object store has no folders", {path: OSError("mkdirs")})

    def _list(self, dir_or_prefix):
        for path in sorted(OBJECTS):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return _Writer(path)

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return io.BytesIO(OBJECTS[path])

    def copy(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            OBJECTS[target] = OBJECTS[source]

    def rename(self, source_file_names, destination_file_names):
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)
        CALLS.extend(("create", path) for path in destination_file_names)

    def exists(self, path):
        return path in OBJECTS

    def size(self, path):
        return len(OBJECTS[path])

    def last_updated(self, path):
        return time.time()

    def metadata(self, path):
        if path not in OBJECTS:
            raise BeamIOError("no such object", {path: FileNotFoundError(path)})
        return FileMetadata(path, len(OBJECTS[path]))

    def delete(self, paths):
        for path in paths:
            if path not in OBJECTS:
                raise BeamIOError("no such object", {path: FileNotFoundError(path)})
            del OBJECTS[path]
            CALLS.append(("delete", path))
