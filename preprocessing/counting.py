"""Counting field values in Arrow: what one block of the log adds to the shared vocabulary.

A table of counts has the columns field (index), value, count. It travels as bytes: one byte for
the shard (by a stable hash of the value), then an Arrow stream. So no worker ever holds all
distinct values, and merging is a sum per (field, value): order and grouping do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import arrow_fields, hashing, numbers
from preprocessing.layout import Layout, Slot
from preprocessing.schema import DatasetSpec

SHARDS = 16
SCHEMA = pa.schema([("field", pa.int16()), ("value", pa.string()), ("count", pa.int64())])
_COMPACT_ROWS = 1 << 18


def count_values(slot: Slot, batch: pa.RecordBatch, fields: dict[str, Any]) -> pa.Table | None:
    """Values of one field in a batch with their counts, or None if the field is not counted."""
    if not slot.counted:
        return None
    field = slot.field
    if field.kind == "numeric" and not field.as_category:
        gone = int(np.isnan(arrow_fields.raw_numbers(field, batch)).sum())
        return _table(slot.index, pa.array([""]), pa.array([gone])) if gone else None
    if field.kind == "multivalued":
        texts, _, _ = arrow_fields.values_of(field, batch)
    else:
        texts = arrow_fields.category(field, batch, fields)
    counts = pc.value_counts(texts)
    return _table(slot.index, counts.field(0), counts.field(1))


def _table(index: int, values: pa.Array, counts: pa.Array) -> pa.Table:
    return pa.table(
        [pa.array(np.full(len(values), index, np.int16)), values, counts.cast(pa.int64())],
        schema=SCHEMA,
    )


def merged(tables: list[pa.Table]) -> pa.Table:
    """One table with one row for each (field, value)."""
    if len(tables) == 1:
        return tables[0]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    grouped = table.group_by(["field", "value"], use_threads=False).aggregate([("count", "sum")])
    return grouped.select(["field", "value", "count_sum"]).rename_columns(SCHEMA.names)


class Accumulator:
    """Counts and numeric statistics of the batches seen so far."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._slots = Layout.of(spec).slots
        self._fields = {f.name: f for f in spec.fields}
        self._tables: dict[int, list[pa.Table]] = {slot.index: [] for slot in self._slots}
        self._statistics: dict[str, dict[str, Any]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts one batch of served columns."""
        for slot in self._slots:
            table = count_values(slot, batch, self._fields)
            if table is not None:
                self._add_table(slot.index, table)
            if slot.constants.start != slot.constants.stop:
                x = numbers.clipped(arrow_fields.raw_numbers(slot.field, batch), slot.field.clip)
                new = numbers.measure(x, slot.field.transform)
                key = str(slot.index)
                self._statistics[key] = numbers.merge(self._statistics.get(key, {}), new)

    def _add_table(self, index: int, table: pa.Table) -> None:
        tables = self._tables[index]
        tables.append(table)
        if len(tables) > 1 and sum(t.num_rows for t in tables[1:]) > max(
            _COMPACT_ROWS, tables[0].num_rows
        ):
            self._tables[index] = [merged(tables)]

    def count_blobs(self) -> list[bytes]:
        """The counts as bytes, one item per shard that is not empty."""
        table = pa.concat_tables([merged(t) for t in self._tables.values()])
        return sharded(table)

    def number_blob(self) -> bytes:
        """The numeric statistics as bytes."""
        return json.dumps(self._statistics).encode()


def sharded(table: pa.Table) -> list[bytes]:
    """A table of counts cut by a stable hash of the value."""
    values = table["value"].combine_chunks()
    state = hashing.add_text(hashing.start(len(values), 0), values)
    shard = (state % np.uint64(SHARDS)).astype(np.uint8)
    table = table.take(pa.array(np.argsort(shard, kind="stable")))
    ends = np.cumsum(np.bincount(shard, minlength=SHARDS))
    starts = np.concatenate([[0], ends[:-1]])
    return [
        to_blob(s, table.slice(starts[s], ends[s] - starts[s]))
        for s in range(SHARDS)
        if ends[s] > starts[s]
    ]


def to_blob(shard: int, table: pa.Table) -> bytes:
    """One shard of counts as bytes."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_table(table)
    return bytes([shard]) + sink.getvalue().to_pybytes()


def from_blob(blob: bytes) -> pa.Table:
    """The table in a shard's bytes."""
    return pa.ipc.open_stream(pa.BufferReader(blob[1:])).read_all()


class MergeCounts(beam.CombineFn):
    """Sums tables of counts (as bytes) of one shard."""

    def create_accumulator(self) -> list[pa.Table]:
        return []

    def add_input(self, accumulator: list[pa.Table], blob: bytes) -> list[pa.Table]:
        return self._compact([*accumulator, from_blob(blob)])

    def merge_accumulators(self, accumulators: Iterable[list[pa.Table]]) -> list[pa.Table]:
        return self._compact([table for tables in accumulators for table in tables])

    def extract_output(self, accumulator: list[pa.Table]) -> pa.Table:
        return merged(accumulator)

    def _compact(self, tables: list[pa.Table]) -> list[pa.Table]:
        if len(tables) > 1 and sum(t.num_rows for t in tables[1:]) > max(
            _COMPACT_ROWS, tables[0].num_rows
        ):
            return [merged(tables)]
        return tables


def merge_statistics(blobs: Iterable[bytes]) -> bytes:
    """Numeric statistics (as bytes) of several blocks together."""
    total: dict[str, dict[str, Any]] = {}
    for blob in blobs:
        for key, value in json.loads(blob).items():
            total[key] = numbers.merge(total.get(key, {}), value)
    return json.dumps(total).encode()
