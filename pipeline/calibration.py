"""Calibration fitted on the validation split after training, as the exported model applies it.

The result is a list of steps in the form `serving.calibration` describes: first what was fitted
(Platt or isotonic), then the correction for negative down-sampling, because all splits of a
down-sampled log share its rate: the fit is made on the sampled rate and then moved to the true one.
"""

from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from pipeline.config import CalibrationConfig
from pipeline.metrics import Metrics, sigmoid
from serving.calibration import reference

Step = dict[str, Any]
_NEWTON_STEPS = 50


def fit_calibration(config: CalibrationConfig, scored: tuple[np.ndarray, ...]) -> list[Step]:
    """Steps for logits, labels and weights (each (N,)) of the validation split."""
    logits, labels, weights = scored
    steps: list[Step] = []
    if config.method == "platt":
        steps.append(platt(logits, labels, weights))
    elif config.method == "isotonic":
        steps.append(isotonic(logits, labels, weights))
    if config.negative_keep_rate < 1:
        steps.append({"kind": "downsampling", "rate": config.negative_keep_rate})
    return steps


def platt(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Step:
    """The a, b that minimize the log loss of sigmoid(a * logit + b), by Newton's method.

    Plain 0/1 targets, not Platt's smoothed ones (Platt 1999, section 2.1): a validation split has
    thousands of rows of each class, where the two agree.
    """
    x = np.stack([logits.astype(np.float64), np.ones(len(logits))], axis=1)
    y = labels.astype(np.float64)
    slope_intercept = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(x @ slope_intercept)
        gradient = x.T @ (weights * (p - y))
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # A full step may overshoot where the sigmoid is flat; a bounded one still converges.
        slope_intercept -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slope, intercept = slope_intercept
    return {"kind": "platt", "slope": float(slope), "intercept": float(intercept)}


def isotonic(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Step:
    """The best non-decreasing p -> p, as the corners of a piecewise linear function.

    Rates of exactly 0 and 1, which a finite sample cannot show, become 1/(N+2) and its complement.
    """
    p = sigmoid(logits.astype(np.float64))
    edge = 1.0 / (len(p) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    model.fit(p, labels.astype(np.float64), sample_weight=weights)
    x, first = np.unique(model.X_thresholds_, return_index=True)
    return {"kind": "isotonic", "x": x.tolist(), "y": model.y_thresholds_[first].tolist()}


def calibrated_logits(steps: list[Step], logits: np.ndarray) -> np.ndarray:
    """Log odds (N,) after the fitted steps; the down-sampling correction is left out.

    The split is down-sampled itself, so its own labels say nothing of the corrected rate.
    """
    fitted = [step for step in steps if step["kind"] != "downsampling"]
    p = np.clip(reference(logits, fitted), 1e-15, 1 - 1e-15)
    return np.log(p) - np.log1p(-p)


def calibrated_metrics(steps: list[Step], scored: tuple[np.ndarray, ...]) -> dict[str, float]:
    """Metrics of `calibrated_logits` of the logits, labels and weights."""
    logits, labels, weights = scored
    metrics = Metrics()
    metrics.update(calibrated_logits(steps, logits), labels, weights)
    return metrics.result()
