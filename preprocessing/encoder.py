"""Rows to ids and values with Arrow and NumPy: what the TFT graph computes, for whole batches.

The job compares the two on a sample of every dataset before it publishes it; tests compare all
rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing import arrow_fields, columnar, numbers
from preprocessing.layout import Layout, Slot
from preprocessing.schema import DatasetSpec
from preprocessing.text_index import TextIndex


class RowEncoder:
    """Encodes batches of served columns with a finished vocabulary and constants."""

    def __init__(self, spec: DatasetSpec, vocabulary: pa.Table, constants: np.ndarray) -> None:
        self._layout = Layout.of(spec)
        self._fields = {f.name: f for f in spec.fields}
        self._constants = constants
        owner = vocabulary["field"].to_numpy()
        values = vocabulary["value"].combine_chunks()
        ids = vocabulary["id"].to_numpy()
        self._places: list[TextIndex] = []
        self._ids: list[np.ndarray] = []
        for slot in self._layout.slots:
            rows = np.flatnonzero(owner == slot.index)
            self._places.append(TextIndex(values.take(pa.array(rows))))
            self._ids.append(ids[rows].astype(np.int32))

    @property
    def num_features(self) -> int:
        return self._layout.vocabulary_start + sum(map(len, self._ids))

    def vocabulary_size(self, index: int) -> int:
        """Entries of one field in the shared vocabulary."""
        return len(self._ids[index])

    def encode(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Served columns -> ids int32 (B, P), values float32 (B, P)."""
        ids = np.zeros((len(batch), self._layout.num_positions), np.int32)
        values = np.zeros(ids.shape, np.float32)
        for slot in self._layout.slots:
            if slot.field.kind == "multivalued":
                self._many(slot, batch, ids, values)
            elif slot.field.kind == "numeric" and not slot.field.as_category:
                self._number(slot, batch, ids, values)
            else:
                texts = arrow_fields.category(slot.field, batch, self._fields)
                ids[:, slot.start] = self._ids_of(slot, texts)
                values[:, slot.start] = 1.0
        return ids, values

    def _ids_of(self, slot: Slot, column: pa.Array) -> np.ndarray:
        """The id of every row: each text of the dictionary is looked up once."""
        column = columnar.coded(column)
        texts = column.dictionary
        if slot.field.hash_buckets:
            ids = slot.fixed_start + _buckets(texts, slot.fixed_size)
        else:
            ids = self._found(slot, texts)
        return ids[column.indices.to_numpy()]

    def _found(self, slot: Slot, texts: pa.Array) -> np.ndarray:
        if not len(self._ids[slot.index]):
            return np.full(len(texts), slot.index, np.int32)
        at = self._places[slot.index].find(texts)
        return np.where(at >= 0, self._ids[slot.index][at], np.int32(slot.index))

    def _many(self, slot: Slot, batch: pa.RecordBatch, ids: np.ndarray, values: np.ndarray) -> None:
        texts, rows, places = arrow_fields.values_of(slot.field, batch)
        count = np.bincount(rows, minlength=len(batch)).astype(np.float32)
        ids[rows, slot.start + places] = self._ids_of(slot, texts)
        values[rows, slot.start + places] = (np.float32(1) / count)[rows]

    def _number(
        self, slot: Slot, batch: pa.RecordBatch, ids: np.ndarray, values: np.ndarray
    ) -> None:
        field: Any = slot.field
        own = self._constants[slot.constants]
        x = arrow_fields.raw_numbers(field, batch)
        if field.transform == "quantiles":
            found = slot.fixed_start + arrow_fields.buckets_of(field, batch, own)
            number = np.ones(len(x), np.float32)
        else:
            found = np.full(len(x), slot.index, np.int32)
            number = numbers.transformed(x, field, own)
        missing = np.isnan(x)
        if missing.any():
            known = field.missing == "token" and len(self._ids[slot.index])
            token = self._ids[slot.index][0] if known else slot.index
            found = np.where(missing, token, found)
            number = np.where(missing, 1.0 if known else 0.0, number)
        ids[:, slot.start] = found
        values[:, slot.start] = number


def _buckets(texts: pa.Array, buckets: int) -> np.ndarray:
    names = texts.cast(pa.binary()).to_numpy(zero_copy_only=False)
    # Imported here only: without TensorFlow a worker on a cluster starts in a third of the time.
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(tf.constant(names, tf.string), buckets).numpy()
