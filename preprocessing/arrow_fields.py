"""Fields of a batch in Arrow and NumPy: the vectorised twin of the graph in features.py.

Each function here has a partner of the same name there; tests and the job itself compare the two.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import columnar, numbers, timeparts
from preprocessing.layout import input_of

CROSS_MARK = "&"
_NONE = -(1 << 60)


def category(field: Any, batch: pa.RecordBatch, fields: Mapping[str, Any]) -> pa.DictionaryArray:
    """The single text value of each row (B,), empty for missing.

    As a dictionary, in which a text may occur twice or belong to no row.
    """
    if field.kind == "cross":
        parts = [category(fields[name], batch, fields) for name in field.of]
        return functools.reduce(_crossed, parts)
    if field.kind == "numeric":
        return _number_text(field, raw_numbers(field, batch))
    column = columnar.coded(batch.column(input_of(field)))
    texts = column.dictionary
    if field.kind == "time":
        texts = timeparts.part_texts(texts, field)
    else:
        if field.missing:
            texts = _blank(texts, field.missing)
        if field.prefix:
            texts = pc.utf8_slice_codeunits(texts, 0, field.prefix)
    return pa.DictionaryArray.from_arrays(column.indices, texts)


def _crossed(left: pa.DictionaryArray, right: pa.DictionaryArray) -> pa.DictionaryArray:
    """Pairs of values: each pair that occurs is put together once."""
    size = max(len(right.dictionary), 1)
    pairs = left.indices.to_numpy().astype(np.int64) * size + right.indices.to_numpy()
    found = pa.array(pairs).dictionary_encode()
    first, second = np.divmod(found.dictionary.to_numpy(), size)
    texts = pc.binary_join_element_wise(
        left.dictionary.take(pa.array(first)), right.dictionary.take(pa.array(second)), CROSS_MARK
    )
    return pa.DictionaryArray.from_arrays(found.indices, texts)


def values_of(field: Any, batch: pa.RecordBatch) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """A multi-valued field's values: (texts, row of each, place of each within its row).

    A row without any value has the empty text, once.
    """
    column = columnar.coded(batch.column(input_of(field))).dictionary_decode()
    lists = pc.split_pattern(column, field.separator)
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


def _number_text(field: Any, x: np.ndarray) -> pa.DictionaryArray:
    whole = np.floor(numbers.transformed(x, field, np.empty(0)))
    whole = np.clip(np.nan_to_num(whole), -1e15, 1e15).astype(np.int64)
    found = pa.array(np.where(np.isnan(x), _NONE, whole)).dictionary_encode()
    none = pc.equal(found.dictionary, _NONE)
    texts = pc.if_else(none, "", pc.cast(found.dictionary, pa.string()))
    return pa.DictionaryArray.from_arrays(found.indices, texts)


def _blank(column: pa.Array, missing: tuple[str, ...]) -> pa.Array:
    return pc.if_else(pc.is_in(column, pa.array(missing, pa.string())), "", column)
