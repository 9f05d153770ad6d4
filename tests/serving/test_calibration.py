import numpy as np
import pytest
import tensorflow as tf

from serving.calibration import CalibrationError, calibrate, parse_calibration, reference

LOGITS = np.concatenate([np.linspace(-12, 12, 401), [-80.0, 80.0]]).astype(np.float32)
PLATT = {"kind": "platt", "slope": 0.8, "intercept": 0.3}
DOWN = {"kind": "downsampling", "rate": 0.1}
STEEP = {"kind": "isotonic", "x": [0.1, 0.3, 0.30001, 0.9], "y": [0.05, 0.1, 0.4, 1.0]}


@pytest.mark.parametrize(
    "steps",
    [[], [PLATT], [DOWN], [STEEP], [DOWN, PLATT], [DOWN, STEEP], [STEEP, PLATT], [PLATT, STEEP]],
)
def test_graph_equals_reference(steps):
    got = calibrate(tf.constant(LOGITS), parse_calibration(steps)).numpy()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference(LOGITS, parse_calibration(steps)), atol=1.5e-7)


def test_downsampling_restores_the_base_rate():
    """He et al. 2014: with negatives kept at rate w, q = p / (p + (1 - p) / w)."""
    p = 0.4
    logit = np.float32(np.log(p / (1 - p)))
    got = calibrate(tf.constant([logit]), parse_calibration({"kind": "downsampling", "rate": 0.1}))
    np.testing.assert_allclose(got, [p / (p + (1 - p) / 0.1)], rtol=1e-6)


def test_isotonic_is_flat_outside_its_knots():
    steps = parse_calibration({"kind": "isotonic", "x": [0.2, 0.6], "y": [0.25, 0.5]})
    p = np.array([0.01, 0.2, 0.4, 0.6, 0.99])
    got = calibrate(tf.constant(np.log(p / (1 - p)), tf.float32), steps).numpy()
    np.testing.assert_allclose(got, [0.25, 0.25, 0.375, 0.5, 0.5], atol=1e-6)


def test_isotonic_matches_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic").IsotonicRegression(out_of_bounds="clip")
    draw = np.random.default_rng(0)
    p = draw.uniform(0.01, 0.99, 500)
    isotonic.fit(p, draw.uniform(size=500) < p**1.5)
    step = {"kind": "isotonic", "x": isotonic.X_thresholds_, "y": isotonic.y_thresholds_}
    logit = np.log(p / (1 - p)).astype(np.float32)
    expected = isotonic.predict(1 / (1 + np.exp(-logit.astype(np.float64))))
    got = calibrate(tf.constant(logit), parse_calibration(step)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "beta"}, "expected a step of kind"),
        ({"kind": "platt", "slope": 1.0}, r"expected the keys \['intercept', 'slope'\]"),
        ({"kind": "platt", "slope": 1.0, "intercept": float("nan")}, "must be finite"),
        ({"kind": "downsampling", "rate": 0.0}, r"rate must be in \(0, 1\]"),
        ({"kind": "isotonic", "x": [0.1, 0.1], "y": [0, 1]}, "x must increase strictly"),
        ({"kind": "isotonic", "x": [0.1, 0.2], "y": [0.5, 0.1]}, "must not decrease"),
        ({"kind": "isotonic", "x": [0.1], "y": [0.5, 0.1]}, "equally long"),
    ],
)
def test_unusable_steps_are_refused(step, message):
    with pytest.raises(CalibrationError, match=message):
        parse_calibration([step])
