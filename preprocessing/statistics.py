"""What is in a prepared dataset, counted by the Beam job while it writes the records.

Each worker counts per split: rows and clicks of every feature id, of bins of every numeric
field's raw values (5 bits of mantissa, so a bin is at most 3 % wide), the exact sum of those
values, and missing values. All are integers in one small table that Beam adds up, so the result
depends neither on order nor on the number of workers, and no row is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import arrow_fields, columnar, numbers
from preprocessing.filesystem import DataPath, write_table
from preprocessing.layout import Layout, Slot, input_of
from preprocessing.schema import SPLITS, DatasetSpec

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
_EXPONENTS = 256


def bin_edges(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) float32 value of numeric bins."""
    low = keys.astype(np.uint32) << _BIN_SHIFT
    high = low | np.uint32((1 << int(_BIN_SHIFT)) - 1)
    ends = [numbers.from_ordered_bits(edge).astype(np.float64) for edge in (low, high)]
    tiny = float(np.finfo(np.float32).tiny)
    low, high = (np.where(np.abs(end) < tiny, 0.0, end) for end in ends)
    return low, high


class RowStatistics:
    """Counts encoded rows."""

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
        self._ids = np.zeros((len(SPLITS), 2, self._size), np.int64)
        self._bins: dict[int, np.ndarray] = {}
        self._sums: dict[int, np.ndarray] = {}
        self._gone: dict[int, np.ndarray] = {}

    def add(
        self,
        split: np.ndarray,
        served: pa.RecordBatch,
        ids: np.ndarray,
        values: np.ndarray,
        label: np.ndarray,
    ) -> None:
        """Counts rows: split codes (B,), served columns (B,), ids, values (B, P), label (B,)."""
        # One integer says of a row which split it goes to and whether it was clicked.
        which = split.astype(np.int32) * 2 + (label > 0)
        self._count(ids[:, self._single], which)
        if self._many:
            filled = values[:, self._many] != 0
            self._count(ids[:, self._many][filled], np.repeat(which, filled.sum(1)))
        for slot in self._numeric:
            self._number(slot, arrow_fields.raw_numbers(slot.field, served), which)
        for slot in self._unnamed:
            if slot.field.kind == "multivalued":
                texts = columnar.coded(served.column(input_of(slot.field)))
            else:
                texts = arrow_fields.category(slot.field, served, self._fields)
            empty = pc.equal(texts.dictionary, "").to_numpy(zero_copy_only=False)
            if empty.any():
                self._missing(slot.index, empty[texts.indices.to_numpy()], which)

    def _count(self, ids: np.ndarray, which: np.ndarray) -> None:
        for code in range(len(SPLITS)):
            for clicked in range(2):
                some = ids[which == code * 2 + clicked].ravel()
                if len(some):
                    self._ids[code, clicked] += np.bincount(some, minlength=self._size)

    def _number(self, slot: Slot, x: np.ndarray, which: np.ndarray) -> None:
        gone = np.isnan(x)
        if gone.any():
            self._missing(slot.index, gone, which)
            x, which = x[~gone], which[~gone]
        if slot.index not in self._bins:
            self._bins[slot.index] = np.zeros(2 * len(SPLITS) * _BINS, np.int64)
            self._sums[slot.index] = np.zeros(len(SPLITS) * _EXPONENTS, np.int64)
        bins = (numbers.ordered_bits(x) >> _BIN_SHIFT).astype(np.int32)
        bins += which * _BINS
        self._bins[slot.index] += np.bincount(bins, minlength=2 * len(SPLITS) * _BINS)
        exponent, mantissa = numbers.parts(x)
        exponent += (which >> 1) * _EXPONENTS
        sums = np.bincount(exponent, mantissa, len(SPLITS) * _EXPONENTS)
        self._sums[slot.index] += sums.astype(np.int64)

    def _missing(self, index: int, gone: np.ndarray, which: np.ndarray) -> None:
        counts = np.bincount(which[gone], minlength=2 * len(SPLITS))
        self._gone[index] = self._gone.get(index, 0) + counts

    def blob(self) -> bytes:
        """Everything counted, as bytes."""
        parts = []
        for code, counts in enumerate(self._ids):
            parts.append(_part(code, IDS, -1, counts.sum(0), counts[1]))
        for index, bins in self._bins.items():
            for code, counts in enumerate(bins.reshape(len(SPLITS), 2, _BINS)):
                parts.append(_part(code, BINS, index, counts.sum(0), counts[1]))
        for index, found in self._sums.items():
            for code, sums in enumerate(found.reshape(len(SPLITS), _EXPONENTS)):
                part = _part(code, SUMS, index, sums, np.zeros_like(sums))
                keys = pc.subtract(part["key"], numbers.EXPONENT_ZERO)
                parts.append(part.set_column(3, "key", keys).cast(SCHEMA))
        for index, gone in self._gone.items():
            for code, counts in enumerate(gone.reshape(len(SPLITS), 2)):
                parts.append(_part(code, MISSING, index, counts[None].sum(1), counts[1:]))
        return _to_bytes(merged(parts))


def _part(code: int, kind: int, index: int, rows: np.ndarray, positives: np.ndarray) -> pa.Table:
    """A table of counts whose keys are the places in `rows` that are not zero."""
    keys = np.flatnonzero(rows)
    columns = [*(np.full(len(keys), c) for c in (code, kind, index)), keys]
    columns += [rows[keys], positives[keys]]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def merged(tables: list[pa.Table]) -> pa.Table:
    """One row for each (split, kind, field, key)."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    sums = [("rows", "sum"), ("positives", "sum")]
    grouped = table.group_by(_KEYS, use_threads=False).aggregate(sums)
    return grouped.select([*_KEYS, "rows_sum", "positives_sum"]).rename_columns(SCHEMA.names)


def merge_blobs(blobs: Iterable[bytes]) -> bytes:
    """Tables (as bytes) together. Bytes, because Beam takes long to move a table of Arrow's."""
    return _to_bytes(merged([_from_bytes(blob) for blob in blobs]))


class Save(beam.PTransform):
    """Workers' statistics -> `statistics.parquet` in `folder`."""

    def __init__(self, folder: DataPath) -> None:
        super().__init__()
        self._folder = folder

    def expand(self, blobs: beam.PCollection) -> beam.PCollection:
        total = blobs | "Statistics" >> beam.CombineGlobally(merge_blobs)
        return total | "Save statistics" >> beam.Map(_save, self._folder)


def _save(blob: bytes, folder: DataPath) -> None:
    order = [(name, "ascending") for name in _KEYS]
    write_table(_from_bytes(blob).sort_by(order), folder / TABLE)


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_bytes(blob: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.BufferReader(blob)).read_all()
