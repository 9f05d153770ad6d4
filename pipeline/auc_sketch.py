"""Ranking metrics in fixed memory, with bounds that hold for the data at hand.

Scores are rounded to float32 and counted by the leading 20 bits of their order-preserving integer
form (sign, 8 exponent bits, 11 bits of mantissa), so a bin is narrower than 1/2048 of its score.
Only pairs within one bin can be misordered, which gives, with p_b and n_b the positive and
negative weight of bin b:
    |AUC - sketch| <= sum_b p_b n_b / (2 P N),
and average precision lies between the values with every bin's positives last and first. The
calibration error takes a bin that lies across the border of two calibration bins into one of them;
with p the probability of a row and y its label, that moves the error by no more than
    2 sum |p - y| <= 2 (p_b + sum p)
over the rows of such bins, divided by all weight. These bounds are computed from the counts, not
assumed.
"""

import numpy as np

_BITS = 20
_SHIFT = 32 - _BITS


def ordered_bits(scores: np.ndarray) -> np.ndarray:
    """uint32 integers that sort as the float32 scores do."""
    # Adding 0.0 turns -0.0 into 0.0, which must not sort below it.
    raw = (np.asarray(scores, np.float32) + np.float32(0.0)).view(np.uint32)
    return np.where(raw >> 31, ~raw, raw | np.uint32(1 << 31))


def from_ordered_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 scores of which `ordered_bits` makes `bits`."""
    raw = np.where(bits >> 31, bits ^ np.uint32(1 << 31), ~bits)
    return raw.astype(np.uint32).view(np.float32)


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
        """AUC, PR-AUC and calibration error with their error bounds."""
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
            **self._calibration_error(used),
        }

    def scored(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The bins as rows: one of its positives and one of its negatives for each bin.

        Returns:
            Scores float32, those of the bins' middles, within 1/4096 of what was given; labels
            (bool) and weights; each (N,).
        """
        used = [np.flatnonzero(counts) for counts in (self._negative, self._positive)]
        weights = np.concatenate([self._negative[used[0]], self._positive[used[1]]])
        middles = (np.concatenate(used).astype(np.uint32) << _SHIFT) | np.uint32(1 << (_SHIFT - 1))
        return from_ordered_bits(middles), np.repeat([False, True], list(map(len, used))), weights

    def _calibration_error(self, used: np.ndarray, bins: int = 20) -> dict[str, float]:
        positive, probability = self._positive[used], self._probability[used]
        mass = positive + self._negative[used]
        # The bin of the mass's middle, so that a heavy score bin goes to one calibration bin.
        end = np.cumsum(mass) / mass.sum() * bins
        begin = end - mass / mass.sum() * bins
        chunk = np.minimum((begin + end) / 2, bins - 1).astype(np.int64)
        rates = np.bincount(chunk, positive, minlength=bins)
        means = np.bincount(chunk, probability, minlength=bins)
        across = np.ceil(end) - np.floor(begin) > 1
        return {
            "calibration_error": float(np.abs(means - rates).sum() / mass.sum()),
            "calibration_error_bound": float(
                2 * (positive + probability)[across].sum() / mass.sum()
            ),
        }


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
