"""What is in a prepared dataset, counted by the Beam job while it writes the records.

Each worker counts per split: rows and clicks of every feature id, of bins of every numeric
field's raw values (5 bits of mantissa, so a bin is at most 3 % wide), the exact sum of those
values, and missing values. All are integers in one small table that Beam adds up, so the result
depends neither on order nor on the number of workers, and no row is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing import arrow_fields, numbers
from preprocessing.layout import Layout, Slot, input_of
from preprocessing.schema import DatasetSpec

IDS, BINS, SUMS, MISSING = range(4)
TABLE = "statistics.parquet"
SCHEMA = pa.schema(
    [
        ("split", pa.int8()),
        ("kind", pa.int8()),
        ("field", pa.int16()),
        ("key", pa.int64()),
        ("rows", pa.int64()),
        ("positives", pa.int64()),
    ]
)
_KEYS = ["split", "kind", "field", "key"]
_BIN_SHIFT = np.uint32(18)
_BINS = 1 << 14
_COMPACT_ROWS = 1 << 20


def bin_edges(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) float32 value of numeric bins."""
    low = keys.astype(np.uint32) << _BIN_SHIFT
    high = low | np.uint32((1 << int(_BIN_SHIFT)) - 1)
    ends = [numbers.from_ordered_bits(edge).astype(np.float64) for edge in (low, high)]
    tiny = float(np.finfo(np.float32).tiny)
    low, high = (np.where(np.abs(end) < tiny, 0.0, end) for end in ends)
    return low, high


class BlockStatistics:
    """Counts the encoded rows of one block."""

    def __init__(self, spec: DatasetSpec, vocabulary: pa.Table) -> None:
        layout = Layout.of(spec)
        self._slots = layout.slots
        self._fields = {f.name: f for f in spec.fields}
        self._size = layout.vocabulary_start + len(vocabulary)
        named = vocabulary.filter(pc.equal(vocabulary["value"], ""))["field"].to_pylist()
        numeric = [s for s in self._slots if s.field.kind == "numeric"]
        # Where training saw a missing value, it has an id and is counted with the ids.
        self._unnamed = [
            s
            for s in self._slots
            if s.index not in named and s.field.kind not in ("numeric", "cross")
        ]
        self._numeric = numeric
        self._single = [s.start for s in self._slots if s.stop == s.start + 1 and not s.numeric]
        self._many = [
            p for s in self._slots if s.stop > s.start + 1 for p in range(s.start, s.stop)
        ]
        self._ids: dict[int, np.ndarray] = {}
        self._bins: dict[tuple[int, int], np.ndarray] = {}
        self._parts: list[pa.Table] = []

    def add(
        self,
        code: int,
        served: pa.RecordBatch,
        ids: np.ndarray,
        values: np.ndarray,
        label: np.ndarray,
    ) -> None:
        """Counts rows of one split: served columns (B,), ids and values (B, P), label (B,)."""
        clicked = label > 0
        if code not in self._ids:
            self._ids[code] = np.zeros((2, self._size), np.int64)
        for row, keep in enumerate((slice(None), clicked)):
            single = ids[keep][:, self._single].ravel()
            many = ids[keep][:, self._many][values[keep][:, self._many] != 0]
            for found in (single, many):
                self._ids[code][row] += np.bincount(found, minlength=self._size)
        for slot in self._numeric:
            self._number(code, slot, arrow_fields.raw_numbers(slot.field, served), clicked)
        for slot in self._unnamed:
            if slot.field.kind == "multivalued":
                texts = served.column(input_of(slot.field))
            else:
                texts = arrow_fields.category(slot.field, served, self._fields)
            gone = pc.equal(texts, "")
            self._missing(code, slot.index, gone.to_numpy(zero_copy_only=False), clicked)

    def _number(self, code: int, slot: Slot, x: np.ndarray, clicked: np.ndarray) -> None:
        gone = np.isnan(x)
        self._missing(code, slot.index, gone, clicked)
        if gone.any():
            x, clicked = x[~gone], clicked[~gone]
        place = (numbers.ordered_bits(x) >> _BIN_SHIFT).astype(np.int64)
        at = (code, slot.index)
        if at not in self._bins:
            self._bins[at] = np.zeros((2, _BINS), np.int64)
        self._bins[at][0] += np.bincount(place, minlength=_BINS)
        self._bins[at][1] += np.bincount(place[clicked], minlength=_BINS)
        mantissa, exponent = np.frexp(x.astype(np.float64))
        shifted = exponent + 1024
        sums = np.bincount(shifted, np.rint(mantissa * (1 << 24)), 2048)
        keys = np.flatnonzero(sums)
        self._part(code, SUMS, slot.index, keys - 1024, sums[keys].astype(np.int64), None)

    def _missing(self, code: int, index: int, gone: np.ndarray, clicked: np.ndarray) -> None:
        count = int(gone.sum())
        if count:
            positives = np.array([int((gone & clicked).sum())])
            self._part(code, MISSING, index, np.array([0]), np.array([count]), positives)

    def _part(
        self,
        code: int,
        kind: int,
        index: int,
        keys: np.ndarray,
        rows: np.ndarray,
        positives: np.ndarray | None,
    ) -> None:
        columns = [np.full(len(keys), c) for c in (code, kind, index)]
        columns += [keys, rows, np.zeros_like(rows) if positives is None else positives]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
        self._parts.append(pa.Table.from_arrays(arrays, schema=SCHEMA))

    def blob(self) -> bytes:
        """Everything counted, as bytes."""
        for code, counts in self._ids.items():
            keys = np.flatnonzero(counts[0])
            self._part(code, IDS, -1, keys, counts[0][keys], counts[1][keys])
        for (code, index), counts in self._bins.items():
            keys = np.flatnonzero(counts[0])
            self._part(code, BINS, index, keys, counts[0][keys], counts[1][keys])
        return _to_bytes(merged(self._parts))


def merged(tables: list[pa.Table]) -> pa.Table:
    """One row for each (split, kind, field, key)."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    sums = [("rows", "sum"), ("positives", "sum")]
    grouped = table.group_by(_KEYS, use_threads=False).aggregate(sums)
    return grouped.select([*_KEYS, "rows_sum", "positives_sum"]).rename_columns(SCHEMA.names)


class _Merge(beam.CombineFn):
    """Adds tables (as bytes) up."""

    def create_accumulator(self) -> list[pa.Table]:
        return []

    def add_input(self, accumulator: list[pa.Table], blob: bytes) -> list[pa.Table]:
        return self.merge_accumulators([accumulator, [_from_bytes(blob)]])

    def merge_accumulators(self, accumulators: Iterable[list[pa.Table]]) -> list[pa.Table]:
        tables = [table for tables in accumulators for table in tables]
        if len(tables) > 1 and sum(t.num_rows for t in tables[1:]) > max(
            _COMPACT_ROWS, tables[0].num_rows
        ):
            return [merged(tables)]
        return tables

    def extract_output(self, accumulator: list[pa.Table]) -> pa.Table:
        return merged(accumulator)


class Save(beam.PTransform):
    """Blocks' statistics -> `statistics.parquet` in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def expand(self, blobs: beam.PCollection) -> beam.PCollection:
        total = blobs | "Statistics" >> beam.CombineGlobally(_Merge())
        return total | "Save statistics" >> beam.Map(_save, self._folder)


def _save(table: pa.Table, folder: Path) -> None:
    aside = folder / f"{TABLE}.{os.getpid()}"
    pq.write_table(table.sort_by([(name, "ascending") for name in _KEYS]), aside)
    aside.replace(folder / TABLE)


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_bytes(blob: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.BufferReader(blob)).read_all()
