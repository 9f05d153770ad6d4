"""Spans of a growing log: what each one's files were, and its analysis, kept for the next day."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from preprocessing.sources import Block


@dataclass(frozen=True)
class Span:
    """Files of one span as (name, bytes)."""

    files: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, blocks: list[Block], root: Path) -> Span:
        files = dict.fromkeys((b.name, b.path) for b in blocks)
        return cls(tuple((n, Path(p).stat().st_size if Path(p).is_file() else 0) for n, p in files))

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def keep(blob: bytes, folder: str, kind: str) -> None:
    """Writes one accumulator (of one shard) of a span."""
    name = f"{kind}-{blob[0]:02d}.bin" if kind == "vocabulary" else f"{kind}.json"
    path = Path(folder) / name
    aside = path.with_name(f"{name}.{os.getpid()}")
    aside.write_bytes(blob)
    aside.replace(path)


def read(pipeline: beam.Pipeline, folder: Path, number: int) -> dict[str, beam.PCollection]:
    """The kept accumulators of a span as TFT's analyzer cache for it."""
    found = {}
    for kind in ("vocabulary", "constants"):
        files = sorted(str(p) for p in folder.glob(f"{kind}*"))
        found[kind] = (
            pipeline
            | f"Span{number} {kind}" >> beam.Create(files)
            | f"Span{number} {kind} bytes" >> beam.Map(lambda f: Path(f).read_bytes())
        )
    return found
