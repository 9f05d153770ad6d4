"""Made data with planted interactions: DA-HoFM's sparse polynomial and its two functions.

Everything is drawn from a seed, so the records need no file; `planted` tells what was planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

ROWS, VARIABLES, SEED = 100_000, 10, 2021
# Bernoulli rate of a term, and the share of negatives: "less than 5 %" of the data is positive.
_RATE, _NEGATIVE = 0.01, 0.955
# The constants of both functions, which the paper leaves open.
_A, _B, _C, _D = 1.0, -0.5, 2.0, 0.3


def terms(seed: int = SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the polynomial (DA-HoFM eq. 15-17): linear (m,), pairs (m, m), triples (m, m, m).

    Every linear term exists; a pair or triple keeps its weight from U(1, 2) with probability 0.01.
    """
    rng = np.random.default_rng(seed)
    m = VARIABLES
    linear = rng.uniform(1, 2, m)
    pairs = rng.uniform(1, 2, (m, m)) * (rng.random((m, m)) < _RATE)
    triples = rng.uniform(1, 2, (m, m, m)) * (rng.random((m, m, m)) < _RATE)
    return linear, pairs, triples


def planted(seed: int = SEED) -> list[tuple[int, int]]:
    """The unordered pairs of different variables that share a planted pair or triple."""
    _, pairs, triples = terms(seed)
    found = {tuple(sorted(index)) for index in np.argwhere(pairs).tolist()}
    for i, j, k in np.argwhere(triples).tolist():
        found |= {tuple(sorted(pair)) for pair in ((i, j), (i, k), (j, k))}
    return sorted(pair for pair in found if pair[0] != pair[1])


def records(rows: int = ROWS, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """X ~ U(0, 1) of shape (rows, 10), and the labels of eq. 18, below 5 % of them 1."""
    linear, pairs, triples = terms(seed)
    x = np.random.default_rng([seed, 1]).random((rows, VARIABLES))
    value = 1 + x @ linear + np.einsum("bi,ij,bj->b", x, pairs, x)
    for i, j, k in np.argwhere(triples):
        value += triples[i, j, k] * x[:, i] * x[:, j] * x[:, k]
    return x, (value > np.quantile(value, _NEGATIVE)).astype(np.int64)


def polynomial(rows: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """[x, z] and y ~ N(a x^2 + b z^2 + c x z, 0.01) (DA-HoFM eq. 12)."""
    points, noise = _points(rows, seed)
    x, z = points.T
    return points, _A * x**2 + _B * z**2 + _C * x * z + noise


def nonlinear(rows: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """[x, z] and y ~ N(tanh(c tanh(a x + b z + d)), 0.01) (DA-HoFM eq. 13)."""
    points, noise = _points(rows, seed)
    x, z = points.T
    return points, np.tanh(_C * np.tanh(_A * x + _B * z + _D)) + noise


def read(_: Path) -> Iterator[pa.RecordBatch]:
    """The records as text columns: `label` and x0..x9."""
    x, label = records()
    names = ["label", *(f"x{i}" for i in range(VARIABLES))]
    columns = [pa.array(label).cast(pa.string())]
    columns += [pa.array(column.astype(np.float32)).cast(pa.string()) for column in x.T]
    yield pa.RecordBatch.from_arrays(columns, names=names)


def _points(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 2])
    return rng.uniform(-1, 1, (rows, 2)), rng.normal(0, 0.01, rows)
