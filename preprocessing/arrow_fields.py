"""Fields of a batch in Arrow and NumPy: the vectorised twin of the graph in features.py.

Each function here has a partner of the same name there; tests and the job itself compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import numbers, timeparts
from preprocessing.layout import input_of

CROSS_MARK = "&"


def category(field: Any, batch: pa.RecordBatch, fields: Mapping[str, Any]) -> pa.Array:
    """The single text value of each row (B,), empty for missing."""
    if field.kind == "cross":
        parts = [category(fields[name], batch, fields) for name in field.of]
        return pc.binary_join_element_wise(*parts, CROSS_MARK)
    column = batch.column(input_of(field))
    if field.kind == "numeric":
        return _number_text(field, column)
    if field.kind == "time":
        return timeparts.part_texts(column, field)
    if field.missing:
        column = _blank(column, field.missing)
    return pc.utf8_slice_codeunits(column, 0, field.prefix) if field.prefix else column


def values_of(field: Any, batch: pa.RecordBatch) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """A multi-valued field's values: (texts, row of each, place of each within its row).

    A row without any value has the empty text, once.
    """
    lists = pc.split_pattern(batch.column(input_of(field)), field.separator)
    texts, rows = pc.list_flatten(lists), pc.list_parent_indices(lists)
    if field.missing:
        texts = _blank(texts, field.missing)
    rows = rows.to_numpy(zero_copy_only=False).astype(np.int64)
    filled = pc.not_equal(texts, "").to_numpy(zero_copy_only=False)
    if not filled.all():
        empty = np.bincount(rows[filled], minlength=len(batch)) == 0
        first = np.zeros(len(rows), bool)
        first[np.flatnonzero(np.diff(rows, prepend=-1))] = True
        keep = filled | (first & empty[rows])
        texts, rows = texts.filter(pa.array(keep)), rows[keep]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    places = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    near = places < field.max_values
    if not near.all():
        texts, rows, places = texts.filter(pa.array(near)), rows[near], places[near]
    return texts, rows, places


def raw_numbers(field: Any, batch: pa.RecordBatch) -> np.ndarray:
    """A numeric field's raw float32 values (B,), NaN for missing."""
    column = batch.column(input_of(field))
    return pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False)


def buckets_of(field: Any, batch: pa.RecordBatch, boundaries: np.ndarray) -> np.ndarray:
    """Bucket of each row's number (B,): how many boundaries it reaches."""
    x = numbers.clipped(raw_numbers(field, batch), field.clip).astype(np.float64)
    return np.searchsorted(boundaries, x, side="right")


def _number_text(field: Any, column: pa.Array) -> pa.Array:
    x = pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False)
    whole = np.floor(numbers.transformed(x, field, np.empty(0)))
    whole = np.clip(np.nan_to_num(whole), -1e15, 1e15).astype(np.int64)
    return pc.if_else(pa.array(~np.isnan(x)), pc.cast(pa.array(whole), pa.string()), "")


def _blank(column: pa.Array, missing: tuple[str, ...]) -> pa.Array:
    return pc.if_else(pc.is_in(column, pa.array(missing, pa.string())), "", column)
