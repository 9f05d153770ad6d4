"""Seeded 64-bit hashes of Arrow columns: the same on every machine, version and day.

Used where a hash decides something that must never change: splits, sampling, shards of a cache.
Each step takes eight bytes through the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, element by element (uint64)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def start(rows: int, seed: int) -> np.ndarray:
    """The state of `rows` hashes before anything is hashed."""
    with np.errstate(over="ignore"):
        seeded = mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + _GOLDEN)
    return np.repeat(seeded, rows)


def add_text(state: np.ndarray, column: pa.Array) -> np.ndarray:
    """The hashes after a text column (null counts as empty)."""
    if not len(column):
        return state
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    offsets = offsets.astype(np.int64)
    data = column.buffers()[2]
    first, last = int(offsets[0]), int(offsets[-1])
    raw = np.zeros(last - first + 8, np.uint8)
    raw[:-8] = np.frombuffer(data, np.uint8, last - first, first) if last > first else 0
    words = np.ndarray(len(raw) - 7, "<u8", raw, strides=(1,))
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    state = mix(state ^ (lengths.astype(np.uint64) + _GOLDEN))
    for at in range(0, int(lengths.max()), 8):
        rows = np.flatnonzero(lengths > at)
        bits = np.minimum(lengths[rows] - at, 8).astype(np.uint64) * np.uint64(8)
        word = words[starts[rows] + at] & (~np.uint64(0) >> (np.uint64(64) - bits))
        state[rows] = mix(state[rows] ^ word)
    return state


def add_integers(state: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The hashes after an integer column."""
    with np.errstate(over="ignore"):
        return mix(state ^ (values.astype(np.uint64) + _GOLDEN))


def unit(state: np.ndarray) -> np.ndarray:
    """Hashes as float64 in [0, 1)."""
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)
