"""What a Beam worker does with one block of the log: count it, or write it.

Every stage leaves a small report file per block, renamed into place when the block is complete.
So a block that a runner tries twice counts once, on any runner, and the job can add everything
up.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.ahead import ahead
from preprocessing.counting import Accumulator
from preprocessing.encoder import RowEncoder
from preprocessing.layout import Layout
from preprocessing.records import RecordEncoder, ShardWriter
from preprocessing.rows import Order, RowReader, Rows
from preprocessing.schema import SPLITS, DatasetSpec
from preprocessing.sources import Block
from preprocessing.statistics import BlockStatistics

SAMPLE_ROWS = 64
SAMPLE_BLOCKS = 16
_EXAMPLES = 3
Numbered = tuple[int, Block]


def report_path(work: Path, stage: str, number: int) -> Path:
    """Where a stage's report on a block stands."""
    return work / f"{stage}-{number:05d}.json"


def write_report(work: Path, stage: str, number: int, reader: RowReader, **more: Any) -> None:
    """Leaves the report on a complete block."""
    path = report_path(work, stage, number)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    examples = [reason for reason, _ in reader.rejected[:_EXAMPLES]]
    report = {**dataclasses.asdict(reader.counters), "examples": examples, **more}
    aside.write_text(json.dumps(report), encoding="utf-8")
    aside.replace(path)


def write_rejected(work: Path, name: str, rejected: list[tuple[str, str]], block: Block) -> None:
    """Writes a block's rejected rows with their reasons, one JSON object a line."""
    if not rejected:
        return
    with (work / f"rejected-{name}.jsonl").open("w", encoding="utf-8") as file:
        for reason, text in rejected:
            row = {"file": block.name, "block": block.ordinal, "reason": reason, "row": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


class CountRows(beam.DoFn):
    """Counts a block's kept rows, for splits by order."""

    def __init__(self, spec: DatasetSpec, work: Path) -> None:
        self._spec, self._work = spec, work

    def process(self, element: Numbered) -> Iterator[int]:
        number, block = element
        reader = RowReader(self._spec, block)
        for _ in reader:
            continue
        write_report(self._work, "rows", number, reader)
        yield number


class CountValues(beam.DoFn):
    """Counts the values of a block's training rows; outputs `counts` and `numbers` as bytes."""

    def __init__(self, spec: DatasetSpec, work: Path, order: Order | None) -> None:
        self._spec, self._work, self._order = spec, work, order

    def process(self, element: Numbered) -> Iterator[Any]:
        number, block = element
        reader = RowReader(self._spec, block, self._order)
        accumulator = Accumulator(self._spec)
        for rows in ahead(reader):
            accumulator.add(rows.select(0).served)
        write_report(self._work, "count", number, reader)
        for blob in accumulator.count_blobs():
            yield beam.pvalue.TaggedOutput("counts", blob)
        yield beam.pvalue.TaggedOutput("numbers", accumulator.number_blob())


class WriteBlock(beam.DoFn):
    """Writes a block's records, kept raw rows and rejected rows; outputs its statistics."""

    def __init__(self, spec: DatasetSpec, folder: Path, work: Path, order: Order | None) -> None:
        self._spec, self._folder, self._work, self._order = spec, folder, work, order

    def setup(self) -> None:
        self._vocabulary = vocabulary = pq.read_table(self._folder / "vocabulary.parquet")
        constants = self._folder / "constants.json"
        numbers = json.loads(constants.read_text()) if constants.is_file() else []
        self._rows = RowEncoder(self._spec, vocabulary, np.array(numbers, np.float64))
        positions = Layout.of(self._spec).num_positions
        self._records = RecordEncoder(self._rows.num_features, positions)

    def process(self, element: Numbered) -> Iterator[bytes]:
        number, block = element
        reader = RowReader(self._spec, block, self._order)
        statistics = BlockStatistics(self._spec, self._vocabulary)
        outputs = _Outputs(self._spec, self._work, number)
        # Reading, encoding and compressing run in three threads.
        for part in ahead(self._encoded(ahead(reader), statistics)):
            outputs.write(part)
        outputs.close(reader.rejected, block)
        write_report(self._work, "write", number, reader, digests=outputs.digests)
        yield statistics.blob()

    def _encoded(self, chunks: Iterator[Rows], statistics: BlockStatistics) -> Iterator[_Part]:
        for chunk in chunks:
            for code in range(len(SPLITS)):
                rows = chunk.select(code)
                if len(rows.label):
                    ids, values = self._rows.encode(rows.served)
                    statistics.add(code, rows.served, ids, values, rows.label)
                    stream, digest = self._records.encode(
                        ids, values, rows.label, rows.weight, rows.group
                    )
                    yield _Part(code, rows, ids, values, stream, digest)


@dataclasses.dataclass
class _Part:
    """The rows of one split in a chunk, encoded."""

    code: int
    rows: Rows
    ids: np.ndarray
    values: np.ndarray
    stream: bytes
    digest: int


class _Outputs:
    """The files one block goes to."""

    def __init__(self, spec: DatasetSpec, work: Path, number: int) -> None:
        self._spec, self._work, self._number = spec, work, number
        self._shards: dict[int, ShardWriter] = {}
        self._raw: dict[int, tuple[Path, Path, pq.ParquetWriter]] = {}
        self.digests = [0, 0, 0]

    def write(self, part: _Part) -> None:
        """Adds encoded rows; some of the first ones are kept for comparison with the graph."""
        name = f"{SPLITS[part.code]}-{self._number:05d}"
        if part.code not in self._shards:
            self._shards[part.code] = ShardWriter(self._work / f"{name}.tfrecord.gz")
        if not any(self.digests) and self._number < SAMPLE_BLOCKS:
            self._sample(part)
        self._shards[part.code].write(part.stream)
        self.digests[part.code] = (self.digests[part.code] + part.digest) % (1 << 64)
        if SPLITS[part.code] in self._spec.keep_raw:
            table = pa.Table.from_batches([part.rows.served])
            table = table.append_column("label", pa.array(part.rows.label))
            self._raw_writer(part.code, name, table.schema).write_table(table)

    def _raw_writer(self, code: int, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        if code not in self._raw:
            final = self._work / f"{name}.parquet"
            aside = final.with_name(f"{final.name}.{os.getpid()}.part")
            self._raw[code] = (final, aside, pq.ParquetWriter(aside, schema))
        return self._raw[code][2]

    def _sample(self, part: _Part) -> None:
        pick = np.unique(np.linspace(0, len(part.ids) - 1, SAMPLE_ROWS).astype(int))
        table = pa.Table.from_batches([part.rows.served.take(pa.array(pick))])
        base = self._work / f"sample-{self._number:05d}"
        np.savez(base.with_suffix(".npz"), ids=part.ids[pick], values=part.values[pick])
        pq.write_table(table, base.with_suffix(".parquet"))

    def close(self, rejected: list[tuple[str, str]], block: Block) -> None:
        for shard in self._shards.values():
            shard.close()
        for final, aside, writer in self._raw.values():
            writer.close()
            aside.replace(final)
        write_rejected(self._work, f"{self._number:05d}", rejected, block)
