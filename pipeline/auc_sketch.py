"""Ranking metrics in fixed memory, with bounds that hold for the data at hand.

Scores are rounded to float32 and counted by the leading 20 bits of their order-preserving integer
form (sign, 8 exponent bits, 11 bits of mantissa), so a bin is narrower than 1/2048 of its score.
Only pairs within one bin can be misordered, which gives, with p_b and n_b the positive and
negative weight of bin b:
    |AUC - sketch| <= sum_b p_b n_b / (2 P N),
and average precision lies between the values with every bin's positives last and first. Both
bounds are computed from the counts, not assumed.
"""

import numpy as np

_BITS = 20
_SHIFT = 32 - _BITS


def ordered_bits(scores: np.ndarray) -> np.ndarray:
    """uint32 integers that sort as the float32 scores do."""
    # Adding 0.0 turns -0.0 into 0.0, which must not sort below it.
    raw = (np.asarray(scores, np.float32) + np.float32(0.0)).view(np.uint32)
    return np.where(raw >> 31, ~raw, raw | np.uint32(1 << 31))


class ScoreSketch:
    """Weighted counts of positives and negatives by score bin (24 MiB)."""

    def __init__(self) -> None:
        self._positive = np.zeros(1 << _BITS)
        self._negative = np.zeros(1 << _BITS)
        self._probability = np.zeros(1 << _BITS)
        self._least_weight = np.inf

    def update(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        """Add a batch of scores (B,), bool labels (B,) and weights (B,)."""
        bins = (ordered_bits(scores) >> _SHIFT).astype(np.int64)
        size = len(self._positive)
        if labels.any():
            self._least_weight = min(self._least_weight, float(weights[labels].min()))
        self._positive += np.bincount(bins[labels], weights[labels], minlength=size)
        self._negative += np.bincount(bins[~labels], weights[~labels], minlength=size)
        probabilities = 1.0 / (1.0 + np.exp(-np.clip(scores, -700.0, 700.0)))
        self._probability += np.bincount(bins, weights * probabilities, minlength=size)

    def result(self) -> dict[str, float]:
        """AUC, PR-AUC and calibration error, the first two with their error bounds."""
        used = np.flatnonzero(self._positive + self._negative)[::-1]  # best score first
        positive, negative = self._positive[used], self._negative[used]
        total_p, total_n = positive.sum(), negative.sum()
        below = total_n - np.cumsum(negative)
        auc = (positive @ (below + negative / 2)) / (total_p * total_n)
        auc_bound = (positive @ negative) / (2 * total_p * total_n)
        low, high = _precision_range(positive, negative, self._least_weight)
        return {
            "auc": float(auc),
            "auc_error_bound": float(auc_bound),
            "pr_auc": float((low + high) / 2),
            "pr_auc_error_bound": float((high - low) / 2),
            "calibration_error": self._calibration_error(used),
        }

    def _calibration_error(self, used: np.ndarray, bins: int = 20) -> float:
        positive, negative = self._positive[used], self._negative[used]
        mass = positive + negative
        # The bin of the mass's middle, so that a heavy score bin goes to one calibration bin.
        place = (np.cumsum(mass) - mass / 2) / mass.sum()
        chunk = np.minimum((place * bins).astype(np.int64), bins - 1)
        rates = np.bincount(chunk, positive, minlength=bins)
        means = np.bincount(chunk, self._probability[used], minlength=bins)
        return float(np.abs(means - rates).sum() / mass.sum())


def _precision_range(
    positive: np.ndarray, negative: np.ndarray, least: float
) -> tuple[float, float]:
    """Average precision with every bin's positives last, and first."""
    hits, misses = np.cumsum(positive), np.cumsum(negative)
    total = hits[-1]
    # Within a bin precision is monotone along its positives, so its ends bound each of them.
    before = hits - positive
    has = positive > 0
    first = np.minimum(least, positive)  # a positive counts at least itself
    lowest = (before + first) / np.maximum(before + first + misses, 1e-300)
    highest = hits / np.maximum(hits + misses - negative, 1e-300)
    low = (positive * np.where(has, lowest, 0.0)).sum() / total
    high = (positive * np.where(has, highest, 0.0)).sum() / total
    return float(low), float(high)
