"""Which split a row goes to, from the row or its place alone: no worker has to ask another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import hashing
from preprocessing.schema import SPLITS, DatasetSpec

NONE = 255


@dataclass(frozen=True)
class Place:
    """Where a run of rows stands: file, place of each row in it, and number in the whole log."""

    file: str
    split: str | None
    places: np.ndarray
    overall: np.ndarray | None = None
    total: int = 0


def assign(spec: DatasetSpec, batch: pa.RecordBatch, place: Place) -> np.ndarray:
    """Split code of each row (B,) uint8: index into SPLITS, or NONE where no rule takes the row.

    `batch` holds the source columns as `s:<column>` and `n:<column>`.
    """
    split = spec.split
    if split.kind == "files":
        return np.full(len(batch), SPLITS.index(place.split or "train"), np.uint8)
    if split.kind == "column":
        return _by_column(split, _text(batch.column(f"s:{split.column}")))
    if split.kind == "order":
        return _by_order(split, place)
    state = hashing.start(len(batch), split.seed)
    if split.kind == "ratio":
        file = hashing.add_text(hashing.start(1, split.seed), pa.array([f"{place.file}#0"]))
        state = hashing.add_integers(np.repeat(file, len(batch)), place.places)
    else:
        names = [f"s:{key}" for key in split.key] or sorted(batch.schema.names)
        for name in names:
            state = hashing.add_text(state, _text(batch.column(name)))
    return _by_share(hashing.unit(state), split.shares)


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column if pa.types.is_string(column.type) else pc.cast(column, pa.string())


def _by_share(unit: np.ndarray, shares: tuple[float, float, float]) -> np.ndarray:
    return np.searchsorted(np.cumsum(shares)[:2], unit, side="right").astype(np.uint8)


def _by_order(split: Any, place: Place) -> np.ndarray:
    if place.overall is None:
        raise ValueError("a split by order needs the rows' overall numbers")
    edges = np.round(np.cumsum(split.shares)[:2] * place.total).astype(np.int64)
    if split.rest == "order":
        return np.searchsorted(edges, place.overall, side="right").astype(np.uint8)
    state = hashing.start(len(place.overall), split.seed)
    unit = hashing.unit(hashing.add_integers(state, place.overall))
    rest = split.validation + split.test
    validation = unit < (split.validation / rest if rest else 0)
    return np.where(place.overall < edges[0], 0, np.where(validation, 1, 2)).astype(np.uint8)


def _by_column(split: Any, column: pa.Array) -> np.ndarray:
    codes = np.full(len(column), NONE, np.uint8)
    if split.train is not None:
        for code, name in enumerate(SPLITS):
            values = pa.array([str(v) for v in getattr(split, name) or ()], pa.string())
            codes[pc.is_in(column, values).to_numpy(zero_copy_only=False)] = code
        return codes
    codes[pc.not_equal(column, "").to_numpy(zero_copy_only=False)] = 0
    for code, start in ((1, split.validation_from), (2, split.test_from)):
        if start is not None:
            codes[_reaches(column, start) & (codes != NONE)] = code
    return codes


def _reaches(column: pa.Array, start: str | int | float) -> np.ndarray:
    if isinstance(start, str):
        return pc.greater_equal(column, start).to_numpy(zero_copy_only=False)
    number = pc.match_substring_regex(column, r"^-?\d+(\.\d*)?$")
    values = pc.cast(pc.if_else(number, column, pa.scalar(None, pa.string())), pa.float64())
    return pc.fill_null(pc.greater_equal(values, float(start)), False).to_numpy(
        zero_copy_only=False
    )
