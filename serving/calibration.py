"""Probability calibration, as it runs inside the served graph and as its NumPy reference.

A calibration is one step or a list of steps applied in order:

    {"kind": "downsampling", "rate": w}         negatives were kept with probability w in training:
                                                odds are multiplied by w (He et al. 2014, eq. 4)
    {"kind": "platt", "slope": a, "intercept": b}   sigmoid(a * logit + b) (Platt 1999)
    {"kind": "isotonic", "x": [...], "y": [...]}    piecewise linear p -> p, flat outside x

Steps work on logits in float64 (a batch of scores is a few hundred numbers), so that a steep
isotonic segment does not magnify float32 rounding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

Step = Mapping[str, object]
_EDGE = 1e-15


class CalibrationError(ValueError):
    """A calibration step has an unknown kind or unusable parameters."""


def parse_calibration(calibration: Step | Sequence[Step] | None) -> list[dict]:
    """Normalize to a list of checked steps with float parameters; [] for None."""
    if calibration is None:
        return []
    steps = [calibration] if isinstance(calibration, Mapping) else list(calibration)
    return [_checked(step) for step in steps]


def _checked(step: Step) -> dict:
    keys = {"platt": {"slope", "intercept"}, "isotonic": {"x", "y"}, "downsampling": {"rate"}}
    kind = step.get("kind") if isinstance(step, Mapping) else None
    if kind not in keys:
        raise CalibrationError(f"calibration: expected a step of kind {sorted(keys)}, got {step!r}")
    given = set(step) - {"kind"}
    if given != keys[kind]:
        raise CalibrationError(
            f"calibration {kind}: expected the keys {sorted(keys[kind])}, got {sorted(given)}"
        )
    if kind == "isotonic":
        return {"kind": kind, **_checked_isotonic(step)}
    numbers = {key: float(step[key]) for key in keys[kind]}
    if not np.all(np.isfinite(list(numbers.values()))):
        raise CalibrationError(f"calibration {kind}: parameters must be finite, got {numbers}")
    if kind == "downsampling" and not 0.0 < numbers["rate"] <= 1.0:
        raise CalibrationError(
            f"calibration downsampling: rate must be in (0, 1], got {numbers['rate']}"
        )
    return {"kind": kind, **numbers}


def _checked_isotonic(step: Step) -> dict[str, list[float]]:
    x, y = (np.asarray(step[key], np.float64) for key in ("x", "y"))
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise CalibrationError(
            f"calibration isotonic: x and y must be equally long lists, got {x.shape} and {y.shape}"
        )
    rising = np.all(np.diff(x) > 0) and np.all(np.diff(y) >= 0)
    if not rising or np.any((y < 0) | (y > 1)) or not np.all(np.isfinite(x)):
        raise CalibrationError(
            "calibration isotonic: x must increase strictly, y must not decrease and stay in [0, 1]"
        )
    return {"x": x.tolist(), "y": y.tolist()}


def calibrate(logits: tf.Tensor, steps: Sequence[Step]) -> tf.Tensor:
    """Probabilities (B,) float32 of logits (B,) float32, by TensorFlow operations."""
    if not steps:
        return tf.sigmoid(logits)
    logit = tf.cast(logits, tf.float64)
    probability = None
    for step in steps:
        if probability is not None:
            clipped = tf.clip_by_value(probability, _EDGE, 1 - _EDGE)
            logit, probability = tf.math.log(clipped) - tf.math.log1p(-clipped), None
        if step["kind"] == "platt":
            logit = step["slope"] * logit + step["intercept"]
        elif step["kind"] == "downsampling":
            logit = logit + np.log(step["rate"])
        else:
            probability = _interpolate(tf.sigmoid(logit), step["x"], step["y"])
    return tf.cast(tf.sigmoid(logit) if probability is None else probability, tf.float32)


def _interpolate(p: tf.Tensor, x: Sequence[float], y: Sequence[float]) -> tf.Tensor:
    # Repeating the ends makes the line flat outside [x0, xn]; a width of 1 there avoids 0 / 0.
    left = tf.constant([x[0] - 1.0, *x], tf.float64)
    width = tf.constant([1.0, *np.diff(x), 1.0], tf.float64)
    base = tf.constant([y[0], *y], tf.float64)
    rise = tf.constant([0.0, *np.diff(y), 0.0], tf.float64)
    segment = tf.searchsorted(left[1:], p, side="right")
    share = (p - tf.gather(left, segment)) / tf.gather(width, segment)
    return tf.gather(base, segment) + share * tf.gather(rise, segment)


def reference(logits: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """The same by NumPy in float64: what a served probability is checked against."""
    p = _sigmoid(np.asarray(logits, np.float64))
    for step in steps:
        odds = np.log(np.clip(p, _EDGE, 1 - _EDGE)) - np.log1p(-np.clip(p, _EDGE, 1 - _EDGE))
        if step["kind"] == "platt":
            p = _sigmoid(step["slope"] * odds + step["intercept"])
        elif step["kind"] == "downsampling":
            p = p / (p + (1 - p) / step["rate"])
        else:
            p = np.interp(p, step["x"], step["y"])
    return p


def _sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))
