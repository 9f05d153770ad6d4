import json
from functools import partial

import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from pipeline.calibration import calibrated_metrics, fit_calibration, isotonic, platt
from pipeline.config import CalibrationConfig
from pipeline.metrics import Metrics, sigmoid
from pipeline.train import Trainer
from serving.calibration import parse_calibration, reference
from tests.pipeline.support import MemoryPrepared, run_config


def skewed(rows=20_000, seed=0):
    """Logits twice too steep and shifted by 0.7, with the labels of the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1.0, 1.0, rows)
    labels = rng.random(rows) < sigmoid(true)
    return (2.0 * true + 0.7).astype(np.float32), labels, rng.choice([1.0, 2.0], rows)


def test_platt_finds_the_distortion_and_equals_scikit_learn():
    logits, labels, weights = skewed()
    step = platt(logits, labels, weights)
    assert step["slope"] == pytest.approx(0.5, abs=0.03)
    assert step["intercept"] == pytest.approx(-0.35, abs=0.05)
    model = LogisticRegression(C=np.inf, tol=1e-8)
    model.fit(logits[:, None].astype(np.float64), labels, sample_weight=weights)
    assert step["slope"] == pytest.approx(model.coef_[0, 0], abs=1e-4)
    assert step["intercept"] == pytest.approx(model.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_lowers_error_and_logloss(method):
    scored = skewed()
    before = calibrated_metrics([], scored)
    steps = fit_calibration(CalibrationConfig(method=method), scored)
    after = calibrated_metrics(steps, skewed(seed=1))
    assert after["calibration_error"] < 0.3 * before["calibration_error"]
    assert after["logloss"] < before["logloss"]
    assert after["auc"] == pytest.approx(before["auc"], abs=0.02)


def test_isotonic_is_a_step_the_server_accepts():
    logits, labels, weights = skewed(300)
    step = isotonic(logits, labels, weights)
    assert parse_calibration(step)
    assert min(step["y"]) > 0 and max(step["y"]) < 1
    assert np.all(np.diff(reference(np.sort(logits), [step])) >= 0)


def test_down_sampling_is_undone():
    rng = np.random.default_rng(2)
    logit = rng.normal(-3, 1, 400_000)
    labels = rng.random(len(logit)) < sigmoid(logit)
    keep = labels | (rng.random(len(logit)) < 0.1)
    sampled = (logit - np.log(0.1))[keep].astype(np.float32)  # what a model of the sample learns
    config = CalibrationConfig(method="platt", negative_keep_rate=0.1)
    steps = fit_calibration(config, (sampled, labels[keep], np.ones(keep.sum())))
    assert [step["kind"] for step in steps] == ["platt", "downsampling"]
    corrected = reference((logit - np.log(0.1)).astype(np.float32), steps)
    assert corrected.mean() == pytest.approx(labels.mean(), rel=0.02)


def test_a_sketch_fits_as_its_rows_do():
    logits, labels, weights = skewed()
    metrics = Metrics(exact_rows=1000)
    metrics.update(logits, labels, weights)
    for method in ("platt", "isotonic"):
        config = CalibrationConfig(method=method)
        exact = fit_calibration(config, (logits, labels, weights))
        sketched = fit_calibration(config, metrics.scored())
        difference = reference(logits, exact) - reference(logits, sketched)
        assert np.abs(difference).mean() < 1e-3


def test_a_split_too_large_to_keep_is_calibrated_too(tmp_path, monkeypatch):
    calibration = {"method": "platt", "negative_keep_rate": 0.5}
    found = {}
    for rows in (100, 10_000):
        monkeypatch.setattr("pipeline.evaluate.Metrics", partial(Metrics, exact_rows=rows))
        run = tmp_path / str(rows)
        config = run_config(run, calibration=calibration, training={"epochs": 1})
        found[rows] = Trainer(config, MemoryPrepared(), Console(quiet=True)).train().metrics
        steps = json.loads((run / "calibration.json").read_text())
        assert [step["kind"] for step in steps] == ["platt", "downsampling"]
        assert (run / "plots" / "roc_validation.png").is_file()
    large, small = (found[rows]["validation_calibrated"] for rows in (100, 10_000))
    assert large["rows"] == small["rows"] > 100
    for name in ("logloss", "auc", "calibration_ratio"):
        assert large[name] == pytest.approx(small[name], rel=1e-3)


def test_training_stores_the_steps_in_the_run(tmp_path):
    config = run_config(tmp_path / "r", calibration={"method": "isotonic"})
    result = Trainer(config, MemoryPrepared(), Console(quiet=True)).train()
    steps = json.loads((tmp_path / "r" / "calibration.json").read_text())
    assert [step["kind"] for step in steps] == ["isotonic"]
    raw, fitted = (result.metrics[name] for name in ("validation", "validation_calibrated"))
    assert fitted["logloss"] < raw["logloss"]
