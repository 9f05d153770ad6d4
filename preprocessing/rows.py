"""From source chunks to usable rows: label rule, weight, group and split, with nothing lost.

Every row read ends in exactly one place: kept, rejected (with a reason) or dropped by a rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import sources, splits
from preprocessing.layout import served_columns
from preprocessing.schema import SPLITS, DatasetSpec
from preprocessing.sources import Block

_DROP, _REJECT = -1, -2
_PLAIN = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


@dataclass
class Rows:
    """Kept rows: served columns (B,), texts as dictionaries; label float32, split uint8 (B,)."""

    served: pa.RecordBatch
    label: np.ndarray
    split: np.ndarray
    weight: np.ndarray | None = None
    group: pa.Array | None = None

    def select(self, code: int) -> Rows:
        """The rows of one split, in order."""
        keep = self.split == code
        if keep.all():
            return self
        mask = pa.array(keep)
        return Rows(
            self.served.filter(mask),
            self.label[keep],
            self.split[keep],
            None if self.weight is None else self.weight[keep],
            None if self.group is None else self.group.filter(mask),
        )


@dataclass
class Counters:
    """What became of the rows of a block."""

    rows_in: int = 0
    kept: list[int] = field(default_factory=lambda: [0, 0, 0])
    positives: list[int] = field(default_factory=lambda: [0, 0, 0])
    rejected: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, count: int) -> None:
        """Notes `count` rows dropped by a rule."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


@dataclass(frozen=True)
class Order:
    """For splits by order: kept rows before each block, and in all."""

    before: dict[str, int]
    total: int


class RowReader:
    """Reads the rows of a block; `counters` and `rejected` fill up on the way."""

    def __init__(self, spec: DatasetSpec, block: Block, order: Order | None = None) -> None:
        self._spec, self._block, self._order = spec, block, order
        self._wanted = sources.wanted_columns(spec)
        self._served = served_columns(spec)
        self.counters = Counters()
        self.rejected: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[Rows]:
        for chunk in sources.read(self._block, self._spec.source, self._wanted):
            yield self.rows_of(chunk)

    def labelled(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray, np.ndarray]]:
        """(source columns, places in the file, labels) of the good rows, without splits."""
        for chunk in sources.read(self._block, self._spec.source, self._wanted):
            yield self._good(chunk)

    def _good(self, chunk: sources.Chunk) -> tuple[pa.RecordBatch, np.ndarray, np.ndarray]:
        batch = chunk.batch
        self.counters.rows_in += len(batch) + len(chunk.rejected)
        self._reject(chunk.rejected)
        return self._weighed(*self._labelled(batch, chunk.places))

    def rows_of(self, chunk: sources.Chunk) -> Rows:
        """The rows of the block's next chunk."""
        batch, places, label = self._good(chunk)
        overall = None
        if self._order:
            first = self._order.before[self._block.key] + sum(self.counters.kept)
            overall = np.arange(first, first + len(batch))
        total = self._order.total if self._order else 0
        place = splits.Place(self._block.name, self._block.split, places, overall, total)
        if self._spec.split.kind == "order" and not self._order:
            codes = np.zeros(len(batch), np.uint8)
        else:
            codes = splits.assign(self._spec, batch, place)
        keep = codes != splits.NONE
        self.counters.drop("split", int((~keep).sum()))
        if not keep.all():
            batch, label, codes = batch.filter(pa.array(keep)), label[keep], codes[keep]
        for code in range(len(SPLITS)):
            self.counters.kept[code] += int((codes == code).sum())
            self.counters.positives[code] += int(label[codes == code].sum())
        return self._finish(batch, label, codes)

    def _labelled(
        self, batch: pa.RecordBatch, places: np.ndarray
    ) -> tuple[pa.RecordBatch, np.ndarray, np.ndarray]:
        rule = self._spec.label
        if rule.column is None:
            return batch, places, np.full(len(batch), rule.constant, np.float32)
        coded = batch.column(f"s:{rule.column}")
        meanings = np.array([self._meaning(t) for t in coded.dictionary.to_pylist()], np.int8)
        label = meanings[coded.indices.to_numpy()] if len(batch) else np.empty(0, np.int8)
        for row in np.flatnonzero(label == _REJECT):
            text = coded.dictionary[coded.indices[int(row)].as_py()].as_py()
            what = "0 or 1" if rule.positive is None else "a value the label rule knows"
            reason = f"label '{rule.column}': expected {what}, got {text!r}"
            self._reject([(reason, _row_text(batch, int(row)))])
        self.counters.drop("label", int((label == _DROP).sum()))
        keep = label >= 0
        if keep.all():
            return batch, places, label.astype(np.float32)
        return batch.filter(pa.array(keep)), places[keep], label[keep].astype(np.float32)

    def _meaning(self, text: str) -> int:
        rule = self._spec.label
        if _among(text, rule.drop):
            return _DROP
        if rule.positive is None:
            plain = {**_PLAIN, "-1": 0} if self._spec.source.format == "libfm" else _PLAIN
            return plain.get(text.strip().lower(), _REJECT)
        if text == "":
            return _REJECT
        if rule.positive.values is not None:
            return int(_among(text, rule.positive.values))
        number = _number(text)
        if number is None:
            return _REJECT
        if rule.positive.above is not None:
            return int(number > rule.positive.above)
        return int(number >= (rule.positive.at_least or 0.0))

    def _weighed(
        self, batch: pa.RecordBatch, places: np.ndarray, label: np.ndarray
    ) -> tuple[pa.RecordBatch, np.ndarray, np.ndarray]:
        if not self._spec.weight:
            return batch, places, label
        weight = batch.column(f"n:{self._spec.weight}")
        good = pc.fill_null(pc.greater_equal(weight, 0), False).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(~good):
            got = weight[int(row)].as_py()
            reason = f"weight '{self._spec.weight}': expected a number >= 0, got {got}"
            self._reject([(reason, _row_text(batch, int(row)))])
        return batch.filter(pa.array(good)), places[good], label[good]

    def _finish(self, batch: pa.RecordBatch, label: np.ndarray, codes: np.ndarray) -> Rows:
        served = pa.RecordBatch.from_arrays(
            [
                batch.column(f"{'s' if kind == 'string' else 'n'}:{column}")
                for column, kind in self._served.values()
            ],
            names=list(self._served),
        )
        spec = self._spec
        weight = batch.column(f"n:{spec.weight}").to_numpy() if spec.weight else None
        group = batch.column(f"s:{spec.group}").dictionary_decode() if spec.group else None
        return Rows(served, label, codes, weight, group)

    def _reject(self, rows: list[tuple[str, str]]) -> None:
        self.rejected += rows
        self.counters.rejected += len(rows)


def _row_text(batch: pa.RecordBatch, row: int) -> str:
    values = batch.slice(row, 1).to_pylist()[0]
    return json.dumps({k[2:]: v for k, v in values.items()}, ensure_ascii=False)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _among(text: str, values: tuple[str | int | float, ...]) -> bool:
    number = _number(text)
    return any(
        text == str(v) or (isinstance(v, int | float) and number is not None and number == v)
        for v in values
    )
