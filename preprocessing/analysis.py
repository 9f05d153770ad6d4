"""The analysis of the training split as two TFT analyzers with a cache: vocabulary and constants.

TFT's `ptransform_analyzer` is its extension point for such analyzers, and what its analyzer cache
stores per span of data is exactly the counts of counting.py. The job therefore counts a span
straight from Arrow, without a TensorFlow graph run on every row, and hands the result to
`AnalyzeDatasetWithCache` as that span's cache; TFT merges the spans, finishes the vocabulary and
builds the graph. The same analyzers, given no cache, count from the tensors TFT feeds them: a
test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import tensorflow_transform as tft

from preprocessing import counting, numbers
from preprocessing.filesystem import (
    DataPath,
    path_of,
    read_table,
    write_table,
    write_text,
    writing,
)
from preprocessing.layout import Layout, served_columns
from preprocessing.schema import DatasetSpec

VOCABULARY_SCHEMA = pa.schema([("id", pa.int64()), *counting.SCHEMA])


class _Bytes(tft.experimental.PTransformAnalyzerCacheCoder):
    """Accumulators are bytes already."""

    def encode_cache(self, accumulator: bytes) -> bytes:
        return accumulator

    def decode_cache(self, encoded_accumulator: bytes) -> bytes:
        return encoded_accumulator


class MakeAccumulators(beam.PTransform):
    """Tuples of column arrays (a batch of tensors) -> accumulators."""

    def __init__(self, spec: DatasetSpec, numeric: bool) -> None:
        super().__init__()
        self._spec, self._numeric = spec, numeric

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | beam.FlatMap(_accumulate, self._spec, self._numeric)


def _accumulate(arrays: tuple[np.ndarray, ...], spec: DatasetSpec, numeric: bool) -> list[bytes]:
    columns = {
        name: pa.array(array, pa.binary()).cast(pa.string())
        if kind == "string"
        else pa.array(array, pa.float32())
        for (name, (_, kind)), array in zip(served_columns(spec).items(), arrays, strict=True)
    }
    accumulator = counting.Accumulator(spec)
    accumulator.add(pa.RecordBatch.from_pydict(columns))
    return [accumulator.number_blob()] if numeric else accumulator.count_blobs()


class SumCounts(beam.PTransform):
    """Accumulators of counts -> one for each shard."""

    def expand(self, blobs: beam.PCollection) -> beam.PCollection:
        return (
            blobs
            | "ByShard" >> beam.Map(lambda blob: (blob[0], blob))
            | "Sum" >> beam.CombinePerKey(counting.merge_counts)
            | "WithoutKey" >> beam.Values()
        )


class SumStatistics(beam.PTransform):
    """Accumulators of numeric statistics -> one."""

    def expand(self, blobs: beam.PCollection) -> beam.PCollection:
        return blobs | beam.CombineGlobally(counting.merge_statistics)


class _Finish(beam.PTransform):
    """Counts -> the vocabulary files; gives the path of the text file (the graph's asset)."""

    def __init__(self, spec: DatasetSpec, folder: str, kept: str | None) -> None:
        super().__init__()
        self._spec, self._folder, self._kept = spec, folder, kept

    def expand(self, blobs: beam.PCollection) -> beam.PCollection:
        return (
            blobs
            | "Threshold" >> beam.Map(_frequent, self._spec)
            | "Gather" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write_vocabulary, self._spec, self._folder, self._kept)
        )


def _frequent(blob: bytes, spec: DatasetSpec) -> bytes:
    """The part of a shard that can be in the vocabulary: frequent enough, on one line."""
    table = counting.from_blob(blob)
    least = np.array([getattr(f, "min_count", None) or spec.min_count for f in spec.fields])
    enough = table["count"].to_numpy() >= least[table["field"].to_numpy()]
    table = table.filter(pc.or_(pa.array(enough), pc.equal(table["value"], "")))
    table = table.filter(pc.invert(pc.match_substring_regex(table["value"], r"[\r\n]")))
    return counting.to_blob(blob[0], _best(table, spec))


def _best(table: pa.Table, spec: DatasetSpec) -> pa.Table:
    """At most top_k values of each field (the missing token is not one of them)."""
    limits = {i: f.top_k or spec.top_k for i, f in enumerate(spec.fields)}
    if not any(limits.values()):
        return table
    table = table.sort_by([("count", "descending"), ("value", "ascending")])
    fields = table["field"].to_numpy()
    named = pc.not_equal(table["value"], "").to_numpy()
    keep = np.ones(len(fields), bool)
    for index, limit in limits.items():
        if limit:
            rows = np.flatnonzero((fields == index) & named)
            keep[rows[limit:]] = False
    return table.filter(pa.array(keep))


def finished(tables: list[pa.Table], spec: DatasetSpec, kept: pa.Table | None) -> pa.Table:
    """The vocabulary with ids: by descending count, then by token; `kept` ids do not move."""
    table = _best(pa.concat_tables([counting.SCHEMA.empty_table(), *tables]), spec)
    first = Layout.of(spec).vocabulary_start
    if kept is None:
        return _numbered(table, spec, first)
    known = kept.select(["id", "field", "value"])
    old = known.join(table, ["field", "value"], join_type="left outer").sort_by("id")
    old = old.set_column(3, "count", pc.fill_null(old["count"], 0)).cast(VOCABULARY_SCHEMA)
    new = table.join(known, ["field", "value"], join_type="left anti")
    return pa.concat_tables([old, _numbered(new, spec, first + len(old))])


def _numbered(table: pa.Table, spec: DatasetSpec, first: int) -> pa.Table:
    """A table of counts in vocabulary order, with ids from `first` on."""
    names = pa.array([f.name for f in spec.fields], pa.string())
    parts = (names.take(table["field"].combine_chunks()), table["value"].combine_chunks(), "=")
    keys = pa.table({"count": table["count"], "token": pc.binary_join_element_wise(*parts)})
    table = table.take(pc.sort_indices(keys, [("count", "descending"), ("token", "ascending")]))
    ids = pa.array(np.arange(first, first + len(table)), pa.int64())
    return table.add_column(0, "id", ids).cast(VOCABULARY_SCHEMA)


def tokens_of(vocabulary: pa.Table, spec: DatasetSpec) -> list[str]:
    """The token of every id, in id order."""
    names = [f.name for f in spec.fields]
    fields, values = vocabulary["field"].to_pylist(), vocabulary["value"].to_pylist()
    shared = [f"{names[f]}={v}" for f, v in zip(fields, values, strict=True)]
    return Layout.of(spec).fixed_tokens() + shared


def _write_vocabulary(
    blobs: list[bytes], spec: DatasetSpec, folder: str, kept: str | None
) -> np.ndarray:
    tables = [counting.from_blob(blob) for blob in blobs]
    vocabulary = finished(tables, spec, read_table(path_of(kept)) if kept else None)
    write_table(vocabulary, Path(folder) / "vocabulary.parquet")
    text = Path(folder) / "vocabulary.txt"
    with writing(text) as file:
        file.writelines(f"{token}\n".encode() for token in tokens_of(vocabulary, spec))
    return np.array(str(text).encode())


class _Constants(beam.PTransform):
    """Numeric statistics -> the float64 vector of all fields' constants."""

    def __init__(self, spec: DatasetSpec, folder: str) -> None:
        super().__init__()
        self._spec, self._folder = spec, folder

    def expand(self, blobs: beam.PCollection) -> beam.PCollection:
        return blobs | beam.Map(_write_constants, self._spec, self._folder)


def constants_of(statistics: dict[str, Any], spec: DatasetSpec) -> list[float]:
    """All fields' constants in slot order."""
    found: list[float] = []
    for slot in Layout.of(spec).slots:
        if slot.constants.start != slot.constants.stop:
            found += numbers.constants(statistics.get(str(slot.index), {}), slot.field)
    return found


def _write_constants(blob: bytes, spec: DatasetSpec, folder: str) -> np.ndarray:
    found = constants_of(json.loads(blob), spec)
    write_text(Path(folder) / "constants.json", json.dumps(found))
    return np.array(found, np.float64)


class Analyzers:
    """The two analyzers of a spec; results are also written to `folder` for the writers.

    `folder` is local. `kept` is an earlier dataset's vocabulary.parquet whose ids must not move.
    TFT tells analyzers apart by the objects given, so one instance serves all traces of one
    preprocessing_fn.
    """

    def __init__(self, spec: DatasetSpec, folder: Path, kept: DataPath | None = None) -> None:
        self._size = Layout.of(spec).num_constants
        cacheable = tft.experimental.CacheablePTransformAnalyzer
        finish = _Finish(spec, str(folder), str(kept) if kept else None)
        self._vocabulary = cacheable(MakeAccumulators(spec, False), SumCounts(), finish, _Bytes())
        self._constants = cacheable(
            MakeAccumulators(spec, True), SumStatistics(), _Constants(spec, str(folder)), _Bytes()
        )

    def vocabulary_file(self, columns: list[tf.Tensor]) -> tf.Tensor:
        """Path of the text file with one token a line, by id."""
        (path,) = tft.experimental.ptransform_analyzer(
            columns,
            self._vocabulary,
            [tf.string],
            [[]],
            output_asset_default_values=[b"field"],
            name="vocabulary",
        )
        return path

    def constants(self, columns: list[tf.Tensor]) -> tf.Tensor:
        """float64 vector of the numeric fields' constants."""
        (found,) = tft.experimental.ptransform_analyzer(
            columns, self._constants, [tf.float64], [[self._size]], name="constants"
        )
        return found
