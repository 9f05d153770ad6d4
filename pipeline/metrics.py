"""Metrics of a whole split, fed batch by batch.

Sums (log loss, calibration ratio, RMSE) are exact in float64 at any size. Ranking metrics (AUC,
PR-AUC, expected calibration error, grouped AUC) are exact up to `exact_rows` rows, computed by
scikit-learn where it has them. Above that the scores go into `pipeline.auc_sketch`, whose memory
is fixed; then come with them `auc_error_bound`, `pr_auc_error_bound`, `calibration_error_bound` and
for grouped AUC, estimated from a sample of whole groups, `gauc_standard_error`.

Definitions. Logits are natural-log odds, labels 0 or 1, weights default to 1.
* normalized entropy: log loss divided by that of always predicting the base rate (He et al.,
  "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, eq. 3).
* calibration ratio: sum of probabilities / sum of labels (1 is best).
* calibration error: weighted mean over 20 bins of equal weight of |mean probability - rate|.
* gauc: AUC within each group that has both labels, averaged by the group's rows (impressions).
* rmse: of the probability against 0/1 (binary), or of the prediction clipped to [-1, 1] against
  -1/+1 (regression, as in the AFM and IFM papers).
"""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.auc_sketch import ScoreSketch
from pipeline.errors import PipelineError
from pipeline.grouped_auc import GroupSample

EXACT_ROWS = 10_000_000
CALIBRATION_BINS = 20


class SingleClassError(PipelineError):
    """A ranking metric was asked of `rows` labels that are all alike."""

    def __init__(self, rows: int, label: int) -> None:
        super().__init__(f"all {rows} labels are {label}: AUC needs both classes; check the split")


class NonFiniteScoreError(PipelineError):
    """A score is NaN or infinite."""


class Metrics:
    """Accumulates logits and labels of one split; `result()` gives the metrics.

    Args:
        task: "binary" (logits; labels 0/1) or "regression" (predictions; labels -1/+1).
        exact_rows: most rows kept for exact ranking metrics (13 bytes a row, 25 more with groups).
    """

    def __init__(self, task: str = "binary", exact_rows: int = EXACT_ROWS) -> None:
        self.task = task
        self.exact_rows = exact_rows
        self.rows = 0
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._sketch: ScoreSketch | None = None
        self._groups: GroupSample | None = None
        self._sums = dict.fromkeys(("weight", "label", "probability", "log", "square"), 0.0)

    def update(
        self,
        scores: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """Add one batch: scores (B,), labels (B,), optional weights (B,) and group keys (B,)."""
        scores = np.asarray(scores, np.float64).reshape(-1)
        labels = np.asarray(labels, np.float64).reshape(-1)
        if not np.isfinite(scores).all():
            row = self.rows + int(np.flatnonzero(~np.isfinite(scores))[0])
            raise NonFiniteScoreError(f"the model's output is not a finite number in row {row}")
        weights = np.ones_like(scores) if weights is None else np.asarray(weights, np.float64)
        weights = weights.reshape(-1)
        self._add_sums(scores, labels, weights)
        if groups is not None:
            self._groups = self._groups or GroupSample(self.exact_rows)
            self._groups.update(groups, scores, labels > 0, weights)
        self.rows += len(scores)
        if self._sketch is None and self.rows > self.exact_rows:
            self._start_sketch()
        if self._sketch is not None:
            self._sketch.update(scores, labels > 0, weights)
        else:
            self._scores.append(scores.astype(np.float32))
            self._labels.append(labels > 0)
            self._weights.append(weights)

    def _add_sums(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        sums = self._sums
        sums["weight"] += float(weights.sum())
        sums["label"] += float(weights @ (labels > 0))
        if self.task == "regression":
            sums["square"] += float(weights @ np.square(np.clip(scores, -1.0, 1.0) - labels))
            return
        probabilities = sigmoid(scores)
        sums["probability"] += float(weights @ probabilities)
        # log(1 + e^s) - y s, stable for any s.
        sums["log"] += float(weights @ (np.logaddexp(0.0, scores) - labels * scores))
        sums["square"] += float(weights @ np.square(probabilities - labels))

    def _start_sketch(self) -> None:
        self._sketch = ScoreSketch()
        for scores, labels, weights in zip(self._scores, self._labels, self._weights, strict=True):
            self._sketch.update(scores.astype(np.float64), labels, weights)
        self._scores, self._labels, self._weights = [], [], []

    def result(self) -> dict[str, float]:
        """The metrics; raises SingleClassError where all labels are alike."""
        if not self.rows:
            raise PipelineError("no rows to compute metrics from")
        sums = self._sums
        rate = sums["label"] / sums["weight"]
        if rate in (0.0, 1.0):
            raise SingleClassError(self.rows, int(rate))
        result = {"rows": self.rows, "label_rate": rate}
        result.update(self._ranking())
        if self.task == "binary":
            logloss = sums["log"] / sums["weight"]
            base = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
            result["logloss"] = logloss
            result["normalized_entropy"] = float(logloss / base)
            result["calibration_ratio"] = sums["probability"] / sums["label"]
            result["auc-logloss"] = result["auc"] - logloss
        result["rmse"] = float(np.sqrt(sums["square"] / sums["weight"]))
        if self._groups is not None:
            result.update(self._groups.result())
        return result

    def _ranking(self) -> dict[str, float]:
        if self._sketch is not None:
            found = self._sketch.result()
            if self.task == "regression":
                found = {name: v for name, v in found.items() if "calibration" not in name}
            return found
        scores, labels, weights = self.scored()
        found = {
            "auc": float(roc_auc_score(labels, scores, sample_weight=weights)),
            "pr_auc": float(average_precision_score(labels, scores, sample_weight=weights)),
        }
        if self.task == "binary":
            found["calibration_error"] = calibration_error(
                sigmoid(scores.astype(np.float64)), labels, weights
            )
        return found

    @property
    def keeps_rows(self) -> bool:
        """Whether `scored` is of the very rows (no more than `exact_rows` were given)."""
        return self._sketch is None

    def scored(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, labels (bool) and weights, each (N,), for plots and for fitting a calibration.

        One entry a row, or above `exact_rows` those of `ScoreSketch.scored`.
        """
        if self._sketch is not None:
            return self._sketch.scored()
        return (
            np.concatenate(self._scores),
            np.concatenate(self._labels),
            np.concatenate(self._weights),
        )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) in the dtype given, without overflow."""
    half = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0 / (1.0 + half), half / (1.0 + half))


def calibration_bins(
    probabilities: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    bins: int = CALIBRATION_BINS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of equal weight in order of probability: mean probability, rate, weight of each.

    Those without weight, of which there are some where rows are few, are left out.
    """
    order = np.argsort(probabilities, kind="stable")
    place = np.cumsum(weights[order]) - weights[order] / 2
    chunk = np.empty(len(order), np.int64)
    chunk[order] = np.minimum(place / weights.sum() * bins, bins - 1)
    mass = np.bincount(chunk, weights, minlength=bins)
    used = mass > 0
    mean = np.bincount(chunk, weights * probabilities, minlength=bins)[used] / mass[used]
    rate = np.bincount(chunk, weights * labels, minlength=bins)[used] / mass[used]
    return mean, rate, mass[used]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Expected calibration error over bins of equal weight."""
    mean, rate, mass = calibration_bins(probabilities, labels, weights)
    return float(np.abs(mean - rate) @ mass / mass.sum())
