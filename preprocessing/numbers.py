"""Arithmetic of numeric fields: the transforms, and statistics that do not depend on row order.

Transforms are computed in float64 on both sides (NumPy here, the TensorFlow graph in features.py)
and rounded to float32 once, so the two agree to the last bit or so. The statistics are exact sums
(integers by power of two) and a histogram of float32 values with 12 bits of mantissa kept, so any
number of workers in any order gives the same constants.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

_DROPPED_BITS = 11
LARGEST = float(np.finfo(np.float32).max)


def clipped(x: np.ndarray, clip: tuple[float, float] | None) -> np.ndarray:
    """float32 values within the clip range."""
    return np.clip(x, np.float32(clip[0]), np.float32(clip[1])) if clip else x


def transformed(x: np.ndarray, field: Any, constants: np.ndarray) -> np.ndarray:
    """float32 raw values -> float64 transformed values (NaN stays NaN)."""
    x = clipped(x, field.clip).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if field.transform == "log_squared":
            return np.where(x > 2, np.square(np.log(np.maximum(x, 2.0))), x)
        if field.transform == "log1p":
            return np.sign(x) * np.log1p(np.abs(x))
        if field.transform == "z_score":
            return (x - constants[0]) / constants[1]
        if field.transform == "min_max":
            return np.clip((x - constants[0]) / constants[1], 0.0, 1.0)
    return x


def measure(x: np.ndarray, transform: str) -> dict[str, Any]:
    """The mergeable statistics of a batch of float32 values that `transform` needs."""
    x = x[~np.isnan(x)]
    if transform == "quantiles":
        keys, counts = np.unique(ordered_bits(x) >> _DROPPED_BITS, return_counts=True)
        return {"histogram": dict(zip(keys.tolist(), counts.tolist(), strict=True))}
    if transform == "min_max":
        return {"min": float(x.min()), "max": float(x.max())} if len(x) else {}
    mantissa, exponent = np.frexp(x.astype(np.float64))
    whole = np.rint(mantissa * (1 << 24)).astype(np.int64)
    high, low = whole >> 12, whole & 0xFFF
    exponents, place = np.unique(exponent, return_inverse=True)

    def total(weights: np.ndarray) -> list[int]:
        return [int(t) for t in np.bincount(place, weights, len(exponents))]

    parts = zip(total(high * high), total(2 * high * low), total(low * low), strict=True)
    squares = [(a << 24) + (b << 12) + c for a, b, c in parts]
    keys = [int(e) for e in exponents]
    return {
        "count": len(x),
        "sums": dict(zip(keys, total(whole), strict=True)),
        "squares": dict(zip(keys, squares, strict=True)),
    }


def merge(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Statistics of two batches together (associative and commutative, exactly)."""
    merged = dict(a)
    for name, value in b.items():
        if name not in merged:
            merged[name] = value
        elif isinstance(value, dict):
            merged[name] = {
                k: merged[name].get(k, 0) + value.get(k, 0) for k in merged[name].keys() | value
            }
        else:
            merged[name] = {"min": min, "max": max}.get(name, int.__add__)(merged[name], value)
    return merged


def constants(statistics: dict[str, Any], field: Any) -> list[float]:
    """What `transformed` (or the bucket search) needs, from the merged statistics."""
    if field.transform == "quantiles":
        return _boundaries(statistics.get("histogram", {}), field.buckets)
    if field.transform == "min_max":
        low, high = statistics.get("min", 0.0), statistics.get("max", 1.0)
        return [low, (high - low) or 1.0]
    count = statistics.get("count", 0)
    if not count:
        return [0.0, 1.0]
    mean = _exact(statistics["sums"], 24) / count
    variance = _exact(statistics["squares"], 48, 2) / count - mean * mean
    return [float(mean), float(variance) ** 0.5 or 1.0]


def _exact(sums: dict[Any, int], shift: int, power: int = 1) -> Fraction:
    return sum(
        (Fraction(total) * Fraction(2) ** (power * int(e) - shift) for e, total in sums.items()),
        Fraction(0),
    )


def ordered_bits(x: np.ndarray) -> np.ndarray:
    """float32 values -> uint32 in the same order."""
    bits = (x + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))


EXPONENT_ZERO = 126


def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(e, m) int32 with float32 x = m * 2 ** (e - EXPONENT_ZERO - 24); NaN and infinity are none.

    So a sum of numbers is a few sums of integers, one for each e, and is exact.
    """
    bits = x.view(np.int32)
    biased = (bits >> 23) & 0xFF
    mantissa = (bits & 0x7FFFFF) | ((biased > 0).astype(np.int32) << 23)
    np.negative(mantissa, out=mantissa, where=bits < 0)
    return np.maximum(biased, 1), mantissa


def from_ordered_bits(keys: np.ndarray) -> np.ndarray:
    """The float32 values of `ordered_bits`."""
    bits = np.where(keys >> 31 == 1, keys & np.uint32(0x7FFFFFFF), ~keys)
    return bits.astype(np.uint32).view(np.float32)


def _boundaries(histogram: dict[Any, int], buckets: int) -> list[float]:
    """Boundary k: the smallest value with at least k/buckets of the rows below it."""
    if not histogram:
        return [LARGEST] * (buckets - 1)
    keys = np.array(sorted(int(k) for k in histogram), np.uint32)
    get = {int(k): v for k, v in histogram.items()}
    below = np.concatenate([[0], np.cumsum([get[int(k)] for k in keys])])
    edges = from_ordered_bits(keys << np.uint32(_DROPPED_BITS)).astype(np.float64)
    found = []
    for k in range(1, buckets):
        at = int(np.searchsorted(below * buckets, k * below[-1]))
        found.append(float(edges[at]) if at < len(edges) else LARGEST)
    return found
