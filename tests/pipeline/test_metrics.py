import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from pipeline.errors import PipelineError
from pipeline.grouped_auc import GroupSample, grouped_auc
from pipeline.metrics import Metrics, SingleClassError, calibration_error, sigmoid


def sample(rows=6000, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 1.5, rows).round(2).astype(np.float32)  # rounding makes ties
    labels = (rng.random(rows) < sigmoid(logits)).astype(np.float32)
    return logits, labels, rng.choice([0.5, 1.0, 3.0], rows), rng.integers(0, 50, rows)


def feed(metrics, *columns, step=777):
    for start in range(0, len(columns[0]), step):
        metrics.update(*(c if c is None else c[start : start + step] for c in columns))
    return metrics.result()


def test_equals_scikit_learn_on_weighted_rows_with_ties():
    logits, labels, weights, _ = sample()
    result = feed(Metrics(), logits, labels, weights)
    p = sigmoid(logits.astype(np.float64))
    assert result["auc"] == pytest.approx(roc_auc_score(labels, logits, sample_weight=weights))
    assert result["pr_auc"] == pytest.approx(
        average_precision_score(labels, logits, sample_weight=weights)
    )
    assert result["logloss"] == pytest.approx(log_loss(labels, p, sample_weight=weights))
    rate = np.average(labels, weights=weights)
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert result["normalized_entropy"] == pytest.approx(result["logloss"] / entropy)
    assert result["calibration_ratio"] == pytest.approx((weights @ p) / (weights @ labels))
    assert result["rmse"] == pytest.approx(np.sqrt(np.average((p - labels) ** 2, weights=weights)))


def test_hand_computed_calibration_error():
    # Two bins of ten equal rows each: |0.2 - 0.3| and |0.8 - 0.6|, equally heavy.
    probabilities = np.repeat([0.2, 0.8], 100)
    labels = np.r_[np.tile([1, 0, 0, 0, 0, 0, 1, 0, 0, 1], 10), np.tile([1, 1, 1, 0, 0], 20)]
    error = calibration_error(probabilities, labels.astype(float), np.ones(200))
    mean_gap = np.mean([abs(0.2 - b.mean()) for b in np.array_split(labels[:100], 10)])
    mean_gap += np.mean([abs(0.8 - b.mean()) for b in np.array_split(labels[100:], 10)])
    assert error == pytest.approx(mean_gap / 2)
    assert mean_gap / 2 == pytest.approx((0.1 + 0.2) / 2)


@pytest.mark.parametrize("weighted", [False, True])
def test_sketch_is_within_its_own_bound(weighted):
    rng = np.random.default_rng(3)
    logits = rng.normal(-2, 1, 20_000).astype(np.float32)
    labels = (rng.random(20_000) < sigmoid(logits)).astype(np.float32)
    weights = rng.choice([0.25, 2.0], 20_000) if weighted else None
    exact = feed(Metrics(), logits, labels, weights)
    sketch = feed(Metrics(exact_rows=5000), logits, labels, weights)
    names = [("auc", "auc_error_bound"), ("pr_auc", "pr_auc_error_bound")]
    for name, bound in [*names, ("calibration_error", "calibration_error_bound")]:
        assert 0 < sketch[bound] < (1e-2 if "calibration" in name else 2e-3)
        assert abs(sketch[name] - exact[name]) <= sketch[bound]
    assert sketch["logloss"] == pytest.approx(exact["logloss"], rel=1e-12)
    assert sketch["calibration_error"] == pytest.approx(exact["calibration_error"], abs=2e-3)


@pytest.mark.parametrize("decimals", [0, 1])
def test_calibration_error_of_heavy_score_bins_is_within_its_bound(decimals):
    """Few distinct scores: one of them fills several calibration bins."""
    logits, labels, weights, _ = sample(seed=decimals)
    columns = logits.round(decimals), labels, weights
    exact, sketch = feed(Metrics(), *columns), feed(Metrics(exact_rows=500), *columns)
    difference = abs(sketch["calibration_error"] - exact["calibration_error"])
    assert 0 < difference <= sketch["calibration_error_bound"]


def test_a_sketch_gives_its_bins_as_rows():
    logits, labels, weights, _ = sample()
    metrics = Metrics(exact_rows=500)
    metrics.update(logits, labels, weights)
    scores, positive, mass = metrics.scored()
    for label in (0, 1):
        np.testing.assert_allclose(mass[positive == label].sum(), weights[labels == label].sum())
    np.testing.assert_allclose(mass @ scores, weights @ logits, rtol=1e-3)
    assert not metrics.keeps_rows


def test_regression_clips_predictions_to_the_labels_range():
    result = feed(Metrics("regression"), np.array([3.0, -0.5, 0.0]), np.array([1.0, -1.0, 1.0]))
    assert result["rmse"] == pytest.approx(np.sqrt((0 + 0.25 + 1) / 3))
    assert result["auc"] == 1.0
    assert "logloss" not in result


def test_grouped_auc_is_the_impression_weighted_mean_of_group_aucs():
    logits, labels, weights, groups = sample()
    groups[:5] = 99  # a group of five rows with one label only does not count
    labels[:5] = 1
    expected, total = 0.0, 0.0
    for group in range(50):
        rows = groups == group
        auc = roc_auc_score(labels[rows], logits[rows], sample_weight=weights[rows])
        expected += auc * weights[rows].sum()
        total += weights[rows].sum()
    result = feed(Metrics(), logits, labels, weights, groups)
    assert result["gauc"] == pytest.approx(expected / total)
    assert result["groups"] == 50


def test_group_sample_keeps_whole_groups_and_states_its_error():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 2000, 40_000)
    scores = rng.normal(size=40_000)
    labels = rng.random(40_000) < sigmoid(scores)
    ones = np.ones(40_000)
    sampled = GroupSample(limit=10_000)
    for start in range(0, 40_000, 4000):
        part = slice(start, start + 4000)
        sampled.update(groups[part], scores[part], labels[part], ones[part])
    result = sampled.result()
    full, _, _ = grouped_auc(groups, scores, labels, ones)
    assert 200 < result["groups"] < 1200
    assert abs(result["gauc"] - full) < 4 * result["gauc_standard_error"]


def test_single_class_and_non_finite_scores_are_named():
    metrics = Metrics()
    metrics.update(np.zeros(4), np.zeros(4))
    with pytest.raises(SingleClassError, match="all 4 labels are 0"):
        metrics.result()
    with pytest.raises(PipelineError, match="not a finite number in row 6"):
        metrics.update(np.array([0.0, 0.0, np.nan]), np.zeros(3))
