"""The gate before a promotion: is the candidate good enough beside what is being served?

Both versions score the same labelled rows through the server, alternately, so that a busy machine
slows both. Each metric has limits: `worst` (absolute) and `relative` (how much worse than the
serving version it may be, as a fraction of the serving version's value), overall and in every
slice of a field that has enough rows.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from serving.client import Client
from serving.client.tables import Table, to_columns

HIGHER_IS_BETTER = frozenset({"auc"})
QUALITY = ("logloss", "auc", "calibration")
LATENCY = ("latency_p50_ms", "latency_p99_ms")


class GateError(ValueError):
    """The comparison cannot be made: labels, limits or slices are unusable."""


@dataclass(frozen=True)
class Limit:
    """Bounds of one metric; None for no bound."""

    worst: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Limits:
    """What a candidate must keep.

    Attributes:
        metrics: by name: logloss, auc, calibration (|mean probability / click rate - 1|),
            latency_p50_ms, latency_p99_ms.
        slice_slack: bounds are this much wider in a slice, whose metrics are noisier.
        min_rows: slices with fewer rows are not judged; with fewer rows in all the gate fails.
    """

    metrics: Mapping[str, Limit] = field(
        default_factory=lambda: {
            "logloss": Limit(relative=0.005),
            "auc": Limit(worst=0.5, relative=0.005),
            "calibration": Limit(worst=0.1),
            "latency_p50_ms": Limit(relative=0.5),
        }
    )
    slice_slack: float = 3.0
    min_rows: int = 200

    def __post_init__(self) -> None:
        unknown = sorted(set(self.metrics) - {*QUALITY, *LATENCY})
        if unknown:
            raise GateError(
                f"limits: unknown metric {unknown[0]!r}, expected {', '.join(QUALITY + LATENCY)}"
            )
        if self.slice_slack < 1 or self.min_rows < 1:
            raise GateError("limits: slice_slack and min_rows must be at least 1")


@dataclass(frozen=True)
class Comparison:
    """One metric in one scope (`overall` or `field=value`)."""

    scope: str
    metric: str
    candidate: float
    serving: float
    bound: float | None
    passed: bool


@dataclass(frozen=True)
class GateReport:
    """The verdict, with one line per reason against the candidate."""

    passed: bool
    reasons: list[str]
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Scored:
    """Probabilities (B,) of one version and the seconds each request took."""

    probabilities: np.ndarray
    seconds: np.ndarray

    def latency(self) -> dict[str, float]:
        """Percentiles in milliseconds."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1000
        return {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}


def gate(
    candidate: Client,
    serving: Client,
    rows: Table,
    labels: Sequence[float],
    *,
    limits: Limits | None = None,
    slice_by: Sequence[str] = (),
    weights: Sequence[float] | None = None,
    batch_size: int = 100,
) -> GateReport:
    """Score `rows` with both versions and compare.

    Args:
        candidate: a client of the candidate (by label or version).
        serving: a client of the version now serving.
        rows: raw rows; columns the model does not have may be among them.
        labels: 0 or 1 per row.
        limits: default: `Limits()`.
        slice_by: columns of `rows` whose every value is judged on its own.
        weights: of the rows; default 1.
        batch_size: rows a request.

    Raises:
        GateError: labels or slices do not fit the rows.
        serving.client.ClientError: a server did not answer.
    """
    columns = {name: np.asarray(values, object) for name, values in to_columns(rows).items()}
    size = len(next(iter(columns.values()), ()))
    y = _checked_labels(labels, size)
    absent = [name for name in slice_by if name not in columns]
    if absent:
        raise GateError(f"slices: the rows have no column {absent[0]!r}")
    scored = score_alternately([candidate, serving], columns, batch_size)
    slices = {name: columns[name] for name in slice_by}
    return compare(*scored, y, limits=limits, slices=slices, weights=weights)


def score_alternately(
    clients: Sequence[Client], columns: Mapping[str, np.ndarray], batch_size: int
) -> list[Scored]:
    """Score all rows with every client, batch by batch in turn."""
    size = len(next(iter(columns.values())))
    scores = [np.empty(size, np.float64) for _ in clients]
    seconds: list[list[float]] = [[] for _ in clients]
    warm = {name: values[:batch_size] for name, values in columns.items()}
    for client in clients:  # connecting and fetching metadata is not the model's latency
        client.predict(warm, outputs=["probability"], ignore_unknown=True)
    for start in range(0, size, batch_size):
        batch = {name: values[start : start + batch_size] for name, values in columns.items()}
        for index, client in enumerate(clients):
            began = time.perf_counter()
            answer = client.predict(batch, outputs=["probability"], ignore_unknown=True)
            seconds[index].append(time.perf_counter() - began)
            scores[index][start : start + batch_size] = answer["probability"]
    return [Scored(p, np.array(s)) for p, s in zip(scores, seconds, strict=True)]


def compare(
    candidate: Scored,
    serving: Scored,
    labels: Sequence[float],
    *,
    limits: Limits | None = None,
    slices: Mapping[str, np.ndarray] | None = None,
    weights: Sequence[float] | None = None,
) -> GateReport:
    """Judge two sets of scores of the same rows."""
    limits = limits or Limits()
    y = _checked_labels(labels, len(candidate.probabilities))
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    everything = np.ones(len(y), bool)
    pair = [quality(scored.probabilities, y, w, everything) for scored in (candidate, serving)]
    latency = [scored.latency() for scored in (candidate, serving)]
    comparisons = _judge("overall", {**pair[0], **latency[0]}, {**pair[1], **latency[1]}, limits)
    for name, values in (slices or {}).items():
        for value, rows in _groups(values):
            if rows.sum() < limits.min_rows:
                continue
            metrics = [quality(s.probabilities, y, w, rows) for s in (candidate, serving)]
            comparisons += _judge(f"{name}={value}", *metrics, limits, limits.slice_slack)
    reasons = [_reason(item) for item in comparisons if not item.passed]
    if len(y) < limits.min_rows:
        reasons.insert(
            0, f"overall: {len(y)} rows are too few to judge by, {limits.min_rows} needed"
        )
    return GateReport(not reasons, reasons, comparisons)


def quality(p: np.ndarray, y: np.ndarray, w: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Metrics of some rows; those that need both classes are left out where one is missing."""
    p, y, w = p[rows], y[rows], w[rows]
    metrics = {"logloss": float(log_loss(y, p, sample_weight=w, labels=[0, 1]))}
    if 0 < y.sum() < len(y):
        metrics["auc"] = float(roc_auc_score(y, p, sample_weight=w))
    rate = float(np.average(y, weights=w))
    if rate > 0:
        metrics["calibration"] = abs(float(np.average(p, weights=w)) / rate - 1)
    return metrics


def _judge(
    scope: str,
    candidate: Mapping[str, float],
    serving: Mapping[str, float],
    limits: Limits,
    slack: float = 1.0,
) -> list[Comparison]:
    comparisons = []
    for metric, limit in limits.metrics.items():
        if metric not in candidate or metric not in serving:
            continue
        bound = _bound(metric, limit, serving[metric], slack)
        value = candidate[metric]
        better = metric in HIGHER_IS_BETTER
        # Written so that a NaN fails.
        passed = bound is None or (value >= bound if better else value <= bound)
        comparisons.append(Comparison(scope, metric, value, serving[metric], bound, bool(passed)))
    return comparisons


def _bound(metric: str, limit: Limit, serving: float, slack: float) -> float | None:
    """The tighter of the absolute and the relative limit."""
    better = metric in HIGHER_IS_BETTER
    bounds = []
    if limit.worst is not None:
        bounds.append(limit.worst / slack if better else limit.worst * slack)
    if limit.relative is not None:
        change = limit.relative * slack
        bounds.append(serving * (1 - change if better else 1 + change))
    if not bounds:
        return None
    return max(bounds) if better else min(bounds)


def _reason(item: Comparison) -> str:
    side = "below" if item.metric in HIGHER_IS_BETTER else "above"
    return (
        f"{item.scope}: {item.metric} {item.candidate:.6g} is {side} {item.bound:.6g} "
        f"(serving: {item.serving:.6g})"
    )


def _groups(values: np.ndarray):
    text = np.array(
        [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    )
    for value in np.unique(text):
        yield value, text == value


def _checked_labels(labels: Sequence[float], size: int) -> np.ndarray:
    y = np.asarray(labels, np.float64)
    if y.shape != (size,):
        raise GateError(f"labels: expected {size}, one per row, got shape {y.shape}")
    if not size or not np.all((y == 0) | (y == 1)):
        raise GateError("labels: expected one or more rows with labels 0 and 1")
    return y
