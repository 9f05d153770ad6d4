"""Counting field values in Arrow: what some blocks of the log add to the shared vocabulary.

A table of counts has the columns field (index), value, count. It travels as bytes: one byte for
the shard (by a stable hash of the value), then an Arrow stream. So no worker ever holds all
distinct values, and merging is a sum per (field, value): order and grouping do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing import arrow_fields, columnar, hashing, numbers
from preprocessing.ahead import side_by_side
from preprocessing.layout import Layout, Slot
from preprocessing.schema import DatasetSpec

SHARDS = 16
SCHEMA = pa.schema([("field", pa.int16()), ("value", pa.string()), ("count", pa.int64())])
_COMPACT_ROWS = 1 << 18
Counts = tuple[pa.Array, np.ndarray]


def count_values(slot: Slot, batch: pa.RecordBatch, fields: dict[str, Any]) -> Counts | None:
    """(values, how often) of one field in a batch, or None if the field is not counted."""
    if not slot.counted:
        return None
    field = slot.field
    if field.kind == "numeric" and not field.as_category:
        gone = int(np.isnan(arrow_fields.raw_numbers(field, batch)).sum())
        return (pa.array([""]), np.array([gone])) if gone else None
    if field.kind == "multivalued":
        texts = columnar.coded(arrow_fields.values_of(field, batch)[0])
    else:
        texts = arrow_fields.category(field, batch, fields)
    counts = np.bincount(texts.indices.to_numpy(), minlength=len(texts.dictionary))
    some = counts > 0
    return texts.dictionary.filter(pa.array(some)), counts[some]


def added(parts: list[Counts]) -> Counts:
    """Counts of one field together: each value once."""
    values = pa.concat_arrays([values for values, _ in parts]).dictionary_encode()
    counts = np.concatenate([counts for _, counts in parts])
    # Sums of float64 are exact up to 2^53.
    total = np.bincount(values.indices.to_numpy(), counts, len(values.dictionary))
    return values.dictionary, total.astype(np.int64)


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
        self._counts: dict[int, list[Counts]] = {slot.index: [] for slot in self._slots}
        self._statistics: dict[str, dict[str, Any]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts one batch of served columns."""
        for slot in self._slots:
            counts = count_values(slot, batch, self._fields)
            if counts is not None:
                self._add_counts(self._counts[slot.index], counts)
            if slot.constants.start != slot.constants.stop:
                x = numbers.clipped(arrow_fields.raw_numbers(slot.field, batch), slot.field.clip)
                new = numbers.measure(x, slot.field.transform)
                key = str(slot.index)
                self._statistics[key] = numbers.merge(self._statistics.get(key, {}), new)

    @staticmethod
    def _add_counts(parts: list[Counts], counts: Counts) -> None:
        parts.append(counts)
        if sum(len(values) for values, _ in parts[1:]) > max(_COMPACT_ROWS, len(parts[0][0])):
            parts[:] = [added(parts)]

    def __len__(self) -> int:
        """Values held, repeated ones of several batches included."""
        return sum(len(values) for parts in self._counts.values() for values, _ in parts)

    def count_blobs(self) -> list[bytes]:
        """The counts as bytes, one item per shard that is not empty."""
        filled = {index: parts for index, parts in self._counts.items() if parts}
        tables = [SCHEMA.empty_table()]
        totals = side_by_side(added, filled.values())
        for index, (values, counts) in zip(filled, totals, strict=True):
            field = pa.array(np.full(len(values), index, np.int16))
            tables.append(pa.table([field, values, pa.array(counts)], schema=SCHEMA))
        return sharded(pa.concat_tables(tables))

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
    filled = np.flatnonzero(ends > starts)
    return list(
        side_by_side(lambda s: to_blob(int(s), table.slice(starts[s], ends[s] - starts[s])), filled)
    )


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


def merge_counts(blobs: Iterable[bytes]) -> bytes:
    """Counts (as bytes) of one shard together.

    Bytes, because Beam takes long to move a table of Arrow's.
    """
    blobs = list(blobs)
    if len(blobs) == 1:
        return blobs[0]
    shard = blobs[0][0] if blobs else 0
    return to_blob(shard, merged([from_blob(blob) for blob in blobs]))


def merge_statistics(blobs: Iterable[bytes]) -> bytes:
    """Numeric statistics (as bytes) of several blocks together."""
    total: dict[str, dict[str, Any]] = {}
    for blob in blobs:
        for key, value in json.loads(blob).items():
            total[key] = numbers.merge(total.get(key, {}), value)
    return json.dumps(total).encode()
