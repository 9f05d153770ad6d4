"""Negative sampling: for every positive row, rows that name another item the key never met.

A pipeline of its own before the others. Rows are brought together by a hash of their key, so each
worker sees all positives of the keys it samples for, and only those; it writes them with their
negatives to a Parquet file that the rest of the job reads as its source. Every draw is a hash of
the seed and the row's address, so neither workers nor runner change it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import columnar, hashing, runners
from preprocessing.errors import PrepareError
from preprocessing.filesystem import DataPath, path_of, write_table, write_text
from preprocessing.rows import RowReader
from preprocessing.schema import DatasetSpec, Negatives
from preprocessing.sources import Block
from preprocessing.stages import write_rejected, write_report

LABEL = "sampled label"
_FILE, _PLACE = "sampled file", "sampled place"
_SHARD_BYTES = 64 << 20
_QUICK_DRAWS = 64
_UNIT = "\x1f"


def check(spec: DatasetSpec) -> None:
    """Raises PrepareError for splits that sampling cannot go with."""
    if spec.split.kind in ("files", "order"):
        raise PrepareError(f"negatives: not with a split by {spec.split.kind}")


def sampled_spec(spec: DatasetSpec, folder: DataPath) -> DatasetSpec:
    """The spec that reads what `sample` wrote, for the rest of the job."""
    parts = sorted(folder.glob("*.parquet"))
    source = {"format": "parquet", "files": [p.name for p in parts]}
    document = {**spec.resolved(), "source": source, "negatives": None, "label": {"column": LABEL}}
    return DatasetSpec.parse(document, "sampled")


def sample(
    spec: DatasetSpec, blocks: list[Block], folder: DataPath, work: DataPath, runner: runners.Runner
) -> None:
    """Writes all rows and their negatives to Parquet files in `folder`."""
    size = sum({b.path: path_of(b.path).stat().st_size for b in blocks}.values())
    shards = max(1, -(-size // _SHARD_BYTES))
    rule = spec.negatives
    numbered = list(enumerate(blocks))

    def build(pipeline: beam.Pipeline) -> None:
        read = beam.ParDo(_Read(spec, work, shards)).with_outputs("rows", "items")
        found = runners.blocks(pipeline, numbered) | "Read" >> read
        items = found.items | "Items" >> beam.CombineGlobally(_union)
        _ = (
            found.rows
            | "ByKey" >> beam.GroupByKey()
            | "Sample" >> beam.Map(_write_shard, rule, str(folder), beam.pvalue.AsSingleton(items))
        )

    runner.run("negatives", build, work, len(blocks))


class _Read(beam.DoFn):
    """A block's rows as (shard, Arrow bytes), and the item values of its positives."""

    def __init__(self, spec: DatasetSpec, work: DataPath, shards: int) -> None:
        self._spec, self._work, self._shards = spec, work, shards

    def process(self, element: tuple[int, Block]) -> Iterator[Any]:
        number, block = element
        rule = self._spec.negatives
        reader = RowReader(self._spec, block)
        for batch, places, label in reader.labelled():
            batch = columnar.plain(batch)
            columns = {n[2:]: batch.column(n) for n in sorted(batch.schema.names)}
            table = pa.table(columns)
            table = table.append_column(LABEL, pa.array(label.astype(int).astype(str)))
            table = table.append_column(_FILE, pa.array([block.name] * len(table), pa.string()))
            table = table.append_column(_PLACE, pa.array(places))
            key = hashing.add_text(hashing.start(len(table), 0), _key(table, rule))
            shard = key % np.uint64(self._shards)
            for s in np.unique(shard):
                part = table.filter(pa.array(shard == s))
                yield beam.pvalue.TaggedOutput("rows", (int(s), _to_bytes(part)))
            positive = table.filter(pa.array(label == 1))[rule.column]
            yield beam.pvalue.TaggedOutput("items", pc.unique(positive).to_pylist())
        write_rejected(self._work, f"negatives-{number:05d}", reader.rejected, block)
        write_report(self._work, "negatives", number, reader)


def _key(table: pa.Table, rule: Negatives) -> pa.Array:
    columns = [table[name].combine_chunks() for name in rule.key]
    return pc.binary_join_element_wise(*columns, _UNIT) if len(columns) > 1 else columns[0]


def _union(lists: Iterable[list[str]]) -> list[str]:
    return sorted({value for values in lists for value in values})


def _to_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _write_shard(
    element: tuple[int, Iterable[bytes]], rule: Negatives, folder: str, items: list[str]
) -> None:
    shard, parts = element
    tables = [pa.ipc.open_stream(part).read_all() for part in parts]
    table = pa.concat_tables(tables).sort_by([(_FILE, "ascending"), (_PLACE, "ascending")])
    positives = table.filter(pc.equal(table[LABEL], "1"))
    rows, chosen = draw(positives, rule, items)
    negatives = positives.take(pa.array(rows))
    for name, column in (
        (rule.column, pa.array(items, pa.string()).take(pa.array(chosen))),
        (LABEL, pa.array(["0"] * len(rows), pa.string())),
    ):
        at = negatives.column_names.index(name)
        negatives = negatives.set_column(at, name, column)
    everything = pa.concat_tables([table, negatives])
    order = pc.sort_indices(
        everything, [(_FILE, "ascending"), (_PLACE, "ascending"), (LABEL, "descending")]
    )
    path = path_of(folder) / f"shard-{shard:05d}.parquet"
    write_text(path.with_suffix(".json"), json.dumps({"sampled": len(rows)}))
    write_table(everything.take(order).drop_columns([_FILE, _PLACE]), path)


def draw(positives: pa.Table, rule: Negatives, items: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(row of the positive, index into items) of every negative, `per_positive` for each row.

    The items of one positive are distinct, and none was ever positive for its key; a key that has
    met almost everything gets as many as there are.
    """
    count, k = len(positives), rule.per_positive
    keys = _key(positives, rule).dictionary_encode().indices.to_numpy().astype(np.int64)
    codes = pc.index_in(positives[rule.column], pa.array(items, pa.string()))
    codes = codes.combine_chunks().to_numpy().astype(np.int64)
    met = np.unique(keys * len(items) + codes)
    state = hashing.add_text(hashing.start(count, rule.seed), positives[_FILE].combine_chunks())
    state = hashing.add_integers(state, positives[_PLACE].to_numpy())
    chosen = np.full((count, k), -1, np.int64)
    for nth in range(k):
        open_rows = np.arange(count)
        for attempt in range(_QUICK_DRAWS):
            if not len(open_rows):
                break
            turn = np.full(len(open_rows), nth * _QUICK_DRAWS + attempt)
            drawn = hashing.add_integers(state[open_rows], turn) % np.uint64(len(items))
            drawn = drawn.astype(np.int64)
            taken = _contains(met, keys[open_rows] * len(items) + drawn)
            taken |= (chosen[open_rows, :nth] == drawn[:, None]).any(1)
            chosen[open_rows[~taken], nth] = drawn[~taken]
            open_rows = open_rows[taken]
        for row in open_rows:
            used = met[(met >= keys[row] * len(items)) & (met < (keys[row] + 1) * len(items))]
            left = np.setdiff1d(np.arange(len(items)), np.append(used % len(items), chosen[row]))
            if len(left):
                pick = hashing.add_integers(state[[row]], np.array([nth])) % np.uint64(len(left))
                chosen[row, nth] = left[int(pick[0])]
    rows, turns = np.nonzero(chosen >= 0)
    return rows, chosen[rows, turns]


def _contains(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values
