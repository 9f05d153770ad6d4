"""What a Beam worker does with the blocks of the log: count them, or write them.

Every stage leaves a small report file per block, renamed into place when the block is complete.
So a block that a runner tries twice counts once, on any runner, and the job can add everything
up. What a worker counts it keeps for a whole bundle of blocks, as far as memory allows, because
most values of one block occur in the next one, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import apache_beam.transforms.window as beam_window
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.utils.windowed_value import WindowedValue

from preprocessing import columnar
from preprocessing.ahead import ahead
from preprocessing.counting import Accumulator
from preprocessing.encoder import RowEncoder
from preprocessing.filesystem import DataPath, read_table, write_table, write_text, writing
from preprocessing.layout import Layout
from preprocessing.records import RecordEncoder, Records, ShardWriter
from preprocessing.rows import Order, RowReader, Rows
from preprocessing.schema import SPLITS, DatasetSpec
from preprocessing.sources import Block
from preprocessing.statistics import RowStatistics

SAMPLE_ROWS = 64
SAMPLE_BLOCKS = 16
_EXAMPLES = 3
_MOST_VALUES = 1 << 22
Numbered = tuple[int, Block]


def report_path(work: DataPath, stage: str, number: int) -> DataPath:
    """Where a stage's report on a block stands."""
    return work / f"{stage}-{number:05d}.json"


def write_report(work: DataPath, stage: str, number: int, reader: RowReader, **more: Any) -> None:
    """Leaves the report on a complete block."""
    path = report_path(work, stage, number)
    examples = [reason for reason, _ in reader.rejected[:_EXAMPLES]]
    report = {**dataclasses.asdict(reader.counters), "examples": examples, **more}
    write_text(path, json.dumps(report))


def write_rejected(
    work: DataPath, name: str, rejected: list[tuple[str, str]], block: Block
) -> None:
    """Writes a block's rejected rows with their reasons, one JSON object a line."""
    if not rejected:
        return
    with writing(work / f"rejected-{name}.jsonl") as file:
        for reason, text in rejected:
            row = {"file": block.name, "block": block.ordinal, "reason": reason, "row": text}
            file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())


class CountRows(beam.DoFn):
    """Counts a block's kept rows, for splits by order."""

    def __init__(self, spec: DatasetSpec, work: DataPath) -> None:
        self._spec, self._work = spec, work

    def process(self, element: Numbered) -> Iterator[int]:
        number, block = element
        reader = RowReader(self._spec, block)
        for _ in reader:
            continue
        write_report(self._work, "rows", number, reader)
        yield number


class CountValues(beam.DoFn):
    """Counts the values of blocks' training rows; outputs `counts` and `numbers` as bytes."""

    def __init__(self, spec: DatasetSpec, work: DataPath, order: Order | None) -> None:
        self._spec, self._work, self._order = spec, work, order

    def start_bundle(self) -> None:
        self._counted = Accumulator(self._spec)

    def process(self, element: Numbered) -> Iterator[Any]:
        number, block = element
        reader = RowReader(self._spec, block, self._order)
        for rows in ahead(reader):
            self._counted.add(rows.select(0).served)
        write_report(self._work, "count", number, reader)
        if len(self._counted) > _MOST_VALUES:
            yield from self._outputs()
            self._counted = Accumulator(self._spec)

    def finish_bundle(self) -> Iterator[Any]:
        for output in self._outputs():
            yield beam.pvalue.TaggedOutput(output.tag, _in_window(output.value))

    def _outputs(self) -> Iterator[beam.pvalue.TaggedOutput]:
        for blob in self._counted.count_blobs():
            yield beam.pvalue.TaggedOutput("counts", blob)
        yield beam.pvalue.TaggedOutput("numbers", self._counted.number_blob())


def _in_window(value: bytes) -> WindowedValue:
    """What Beam wants of an output at the end of a bundle."""
    window = beam_window.GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), [window])


class WriteBlock(beam.DoFn):
    """Writes blocks' records, kept raw rows and rejected rows; outputs statistics."""

    def __init__(
        self, spec: DatasetSpec, folder: DataPath, work: DataPath, order: Order | None
    ) -> None:
        self._spec, self._folder, self._work, self._order = spec, folder, work, order

    def setup(self) -> None:
        self._vocabulary = vocabulary = read_table(self._folder / "vocabulary.parquet")
        constants = self._folder / "constants.json"
        numbers = json.loads(constants.read_text()) if constants.is_file() else []
        self._rows = RowEncoder(self._spec, vocabulary, np.array(numbers, np.float64))
        positions = Layout.of(self._spec).num_positions
        self._records = RecordEncoder(self._rows.num_features, positions)

    def start_bundle(self) -> None:
        self._statistics = RowStatistics(self._spec, self._vocabulary)

    def process(self, element: Numbered) -> None:
        number, block = element
        reader = RowReader(self._spec, block, self._order)
        outputs = _Outputs(self._spec, self._work, number)
        # Reading, encoding and compressing run in three threads.
        for encoded in ahead(map(self._encoded, ahead(reader))):
            outputs.write(encoded)
        outputs.close(reader.rejected, block)
        write_report(self._work, "write", number, reader, digests=outputs.digests)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield _in_window(self._statistics.blob())

    def _encoded(self, rows: Rows) -> _Encoded:
        ids, values = self._rows.encode(rows.served)
        self._statistics.add(rows.split, rows.served, ids, values, rows.label)
        records = self._records.encode(ids, values, rows.label, rows.weight, rows.group)
        return _Encoded(rows, ids, values, records)


@dataclasses.dataclass
class _Encoded:
    """Rows of all splits, encoded."""

    rows: Rows
    ids: np.ndarray
    values: np.ndarray
    records: Records


class _Outputs:
    """The files one block goes to."""

    def __init__(self, spec: DatasetSpec, work: DataPath, number: int) -> None:
        self._spec, self._work, self._number = spec, work, number
        self._shards: dict[int, ShardWriter] = {}
        self._raw: dict[int, pq.ParquetWriter] = {}
        self._open = contextlib.ExitStack()
        self.digests = [0, 0, 0]

    def write(self, encoded: _Encoded) -> None:
        """Adds encoded rows; some of the first ones are kept for comparison with the graph."""
        if not any(self.digests) and len(encoded.ids) and self._number < SAMPLE_BLOCKS:
            self._sample(encoded)
        for code in range(len(SPLITS)):
            keep = encoded.rows.split == code
            if keep.any():
                self._write(code, encoded, keep)

    def _write(self, code: int, encoded: _Encoded, keep: np.ndarray) -> None:
        name = f"{SPLITS[code]}-{self._number:05d}"
        if code not in self._shards:
            self._shards[code] = ShardWriter(self._work / f"{name}.tfrecord.gz")
        self._shards[code].write(encoded.records.stream(keep))
        self.digests[code] = (self.digests[code] + encoded.records.digest(keep)) % (1 << 64)
        if SPLITS[code] in self._spec.keep_raw:
            batch = columnar.plain(encoded.rows.served.filter(pa.array(keep)))
            table = pa.Table.from_batches([batch])
            table = table.append_column("label", pa.array(encoded.rows.label[keep]))
            self._raw_writer(code, name, table.schema).write_table(table)

    def _raw_writer(self, code: int, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        if code not in self._raw:
            file = self._open.enter_context(writing(self._work / f"{name}.parquet"))
            self._raw[code] = self._open.enter_context(pq.ParquetWriter(file, schema))
        return self._raw[code]

    def _sample(self, encoded: _Encoded) -> None:
        pick = np.unique(np.linspace(0, len(encoded.ids) - 1, SAMPLE_ROWS).astype(int))
        batch = columnar.plain(encoded.rows.served.take(pa.array(pick)))
        table = pa.Table.from_batches([batch])
        base = self._work / f"sample-{self._number:05d}"
        with writing(base.with_suffix(".npz")) as file:
            np.savez(file, ids=encoded.ids[pick], values=encoded.values[pick])
        write_table(table, base.with_suffix(".parquet"))

    def close(self, rejected: list[tuple[str, str]], block: Block) -> None:
        for shard in self._shards.values():
            shard.close()
        self._open.close()
        write_rejected(self._work, f"{self._number:05d}", rejected, block)
