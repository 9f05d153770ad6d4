import numpy as np
import pytest

from serving.client import Client
from serving.gate import GateError, Limit, Limits, Scored, compare, gate
from tests.serving.servers import run_server

QUIET = np.full(50, 0.002)


@pytest.fixture(scope="module")
def clicks():
    """Labels drawn from known probabilities, and a field with two values."""
    draw = np.random.default_rng(1)
    truth = 1 / (1 + np.exp(-draw.normal(-1.0, 1.2, 4000)))
    labels = (draw.uniform(size=4000) < truth).astype(float)
    return truth, labels, np.where(np.arange(4000) % 4 == 0, "phone", "desktop").astype(object)


def test_the_same_scores_pass(clicks):
    truth, labels, device = clicks
    scored = Scored(truth, QUIET)
    report = compare(scored, scored, labels, slices={"device": device})
    assert report.passed
    assert report.reasons == []
    scopes = {item.scope for item in report.comparisons}
    assert scopes == {"overall", "device=phone", "device=desktop"}


def test_a_worse_candidate_fails_with_reasons(clicks):
    truth, labels, _ = clicks
    noisy = np.clip(truth + np.random.default_rng(2).normal(0, 0.3, len(truth)), 0.01, 0.99)
    report = compare(Scored(noisy, QUIET), Scored(truth, QUIET), labels)
    assert not report.passed
    text = "\n".join(report.reasons)
    assert "overall: logloss" in text
    assert "overall: auc" in text
    assert "is below" in text
    assert f"(serving: {report.comparisons[0].serving:.6g})" in text
    assert report.to_json()["passed"] is False


def test_a_fault_in_one_slice_is_found(clicks):
    """Overall it hides: one row in four, and only miscalibrated there."""
    truth, labels, device = clicks
    p = np.where(device == "phone", np.clip(truth * 1.6, 0, 0.99), truth)
    limits = Limits({"calibration": Limit(worst=0.2)}, slice_slack=1.0)
    report = compare(
        Scored(p, QUIET), Scored(truth, QUIET), labels, limits=limits, slices={"device": device}
    )
    assert [reason.split(":")[0] for reason in report.reasons] == ["device=phone"]


def test_latency_is_compared(clicks):
    truth, labels, _ = clicks
    limits = Limits({"latency_p50_ms": Limit(relative=0.5)})
    slow = compare(Scored(truth, QUIET * 1.6), Scored(truth, QUIET), labels, limits=limits)
    assert "latency_p50_ms 3.2 is above 3 (serving: 2)" in slow.reasons[0]
    assert compare(Scored(truth, QUIET * 1.4), Scored(truth, QUIET), labels, limits=limits).passed


def test_absolute_and_relative_bounds_both_hold(clicks):
    truth, labels, _ = clicks
    scored = Scored(truth, QUIET)
    for limit in (Limit(worst=0.99), Limit(worst=0.99, relative=0.5)):
        report = compare(scored, scored, labels, limits=Limits({"auc": limit}))
        assert report.comparisons[0].bound == 0.99
        assert not report.passed
    assert compare(scored, scored, labels, limits=Limits({"auc": Limit()})).passed


def test_weights_count(clicks):
    truth, labels, device = clicks
    wrong = np.where(device == "phone", np.clip(2 * truth, 0, 0.99), truth)
    limits = Limits({"calibration": Limit(worst=0.05)})
    weights = np.where(device == "phone", 0.0, 1.0)
    scores = Scored(wrong, QUIET), Scored(truth, QUIET)
    assert not compare(*scores, labels, limits=limits).passed
    assert compare(*scores, labels, limits=limits, weights=weights).passed


def test_nan_and_too_few_rows_never_pass(clicks):
    truth, labels, _ = clicks
    small = Scored(truth[:50], QUIET)
    report = compare(small, small, labels[:50], limits=Limits({"auc": Limit(relative=0.0)}))
    assert report.reasons == ["overall: 50 rows are too few to judge by, 200 needed"]
    limits = Limits({"latency_p50_ms": Limit(relative=0.5)})
    broken = Scored(truth, np.full(5, np.nan))
    assert not compare(broken, Scored(truth, QUIET), labels, limits=limits).passed


def test_unusable_arguments(clicks):
    truth, labels, _ = clicks
    scored = Scored(truth, QUIET)
    with pytest.raises(GateError, match="unknown metric 'accuracy'"):
        Limits({"accuracy": Limit()})
    with pytest.raises(GateError, match="labels 0 and 1"):
        compare(scored, scored, labels * 2)
    with pytest.raises(GateError, match="expected 4000, one per row"):
        compare(scored, scored, labels[1:])


def test_gate_scores_through_a_server(repository, served):
    rows = {**served[2], "label column": np.zeros(64)}
    with run_server("embedded", repository, "ctr") as running, Client(running.grpc, "ctr") as one:
        probability = one.predict(served[2])["probability"]
        labels = (probability > np.median(probability)).astype(float)
        limits = Limits({"auc": Limit(worst=0.99, relative=0.0)}, min_rows=20)
        report = gate(one, one, rows, labels, limits=limits, slice_by=["item class"], batch_size=9)
        with pytest.raises(GateError, match="no column 'place'"):
            gate(one, one, rows, labels, slice_by=["place"])
    assert report.passed
    assert report.comparisons[0].candidate == 1.0
    assert {item.scope for item in report.comparisons} == {"overall"}, "slices have 16 rows each"
