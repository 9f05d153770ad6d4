"""Spans of a growing log: what each one's files were, and its analysis, kept for the next day."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from preprocessing.errors import PrepareError
from preprocessing.filesystem import DataPath, path_of, write_bytes
from preprocessing.sources import Block

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset


@dataclass(frozen=True)
class Span:
    """Files of one span as (name, bytes)."""

    files: tuple[tuple[str, int], ...]

    def holds(self, block: Block) -> bool:
        """True if the block is of one of this span's files."""
        return any(name == block.name for name, _ in self.files)

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def history(blocks: list[Block], earlier: PreparedDataset | None) -> list[Span]:
    """The spans of an earlier dataset and the new one, of the files it did not have.

    Raises PrepareError if an earlier file is gone or has changed, or if there is nothing new.
    """
    paths = {b.name: path_of(b.path) for b in blocks}
    sizes = {name: p.stat().st_size if p.is_file() else 0 for name, p in paths.items()}
    old = [Span(tuple((n, s) for n, s in span["files"])) for span in _recorded(earlier)]
    for span in old:
        for name, size in span.files:
            if sizes.get(name) != size:
                state = "gone" if name not in sizes else f"{sizes[name]:,} bytes, was {size:,}"
                raise PrepareError(f"cannot append: the earlier file {name} is {state}")
    known = {name for span in old for name, _ in span.files}
    new = tuple((name, size) for name, size in sizes.items() if name not in known)
    if not new:
        raise PrepareError("cannot append: no file that the dataset does not have already")
    return [*old, Span(new)]


def caches(earlier: PreparedDataset | None) -> list[DataPath]:
    """Folders with the analyses of an earlier dataset's spans."""
    if earlier is None:
        return []
    return [earlier.path / "analysis" / f"span-{i}" for i in range(len(_recorded(earlier)))]


def _recorded(earlier: PreparedDataset | None) -> list[dict[str, Any]]:
    return earlier.manifest["spans"] if earlier else []


def keep(blob: bytes, folder: str, kind: str) -> None:
    """Writes one accumulator (of one shard) of a span."""
    name = f"{kind}-{blob[0]:02d}.bin" if kind == "vocabulary" else f"{kind}.json"
    write_bytes(path_of(folder) / name, blob)


def read(pipeline: beam.Pipeline, folder: DataPath, number: int) -> dict[str, beam.PCollection]:
    """The kept accumulators of a span as TFT's analyzer cache for it."""
    found = {}
    for kind in ("vocabulary", "constants"):
        files = sorted(str(p) for p in folder.glob(f"{kind}*"))
        found[kind] = (
            pipeline
            | f"Span{number} {kind}" >> beam.Create(files)
            | f"Span{number} {kind} bytes" >> beam.Map(lambda f: path_of(f).read_bytes())
        )
    return found
