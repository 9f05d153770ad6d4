"""Comparing two prepared datasets: a log like the first, and logs shifted in one way each."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from preprocessing import drift
from preprocessing.errors import PrepareError
from preprocessing.job import prepare
from preprocessing.prepared import PreparedDataset
from preprocessing.schema import DatasetSpec

FIELDS = [
    {"name": "user", "kind": "categorical"},
    {"name": "city", "kind": "categorical"},
    {"name": "tags", "kind": "multivalued"},
    {"name": "price", "kind": "numeric", "transform": "log1p"},
    {"name": "place", "kind": "categorical", "column": "city", "hash_buckets": 50},
]


def _log(path: Path, seed: int, shifted: bool) -> None:
    """1,500 rows; a shifted log has new users, another favourite city, prices and label rate."""
    draw = random.Random(seed)
    lines = ["clicked,user,city,tags,price"]
    for _ in range(1500):
        user = draw.randint(0, 19) + (100 if shifted and draw.random() < 0.3 else 0)
        cities = ["Aa", "Bb", "Cc", "Dd"] + (["Dd"] * 4 if shifted else [])
        price = draw.gammavariate(2, 30 if shifted else 10)
        click = int(draw.random() < (0.45 if shifted else 0.3))
        tags = "|".join(draw.sample("xyz", draw.randint(0, 2)))
        lines.append(f"{click},u{user},{draw.choice(cities)},{tags},{price:.2f}")
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    folder = tmp_path_factory.mktemp("days")
    found = {}
    for seed, name in enumerate(("monday", "tuesday", "shifted")):
        _log(folder / f"{name}.csv", seed, name == "shifted")
        spec = DatasetSpec.parse(
            {
                "name": name,
                "source": {"files": [f"{name}.csv"]},
                "label": {"column": "clicked"},
                "fields": FIELDS,
            }
        )
        found[name] = prepare(spec, folder / name, folder)
    return found


def _by_name(findings: list[drift.Finding]) -> dict[tuple[str, str], drift.Finding]:
    return {(f.field, f.measure): f for f in findings}


def test_a_log_like_the_baseline_has_no_anomaly(days) -> None:
    findings = drift.compare(days["tuesday"], days["monday"])
    assert [str(f) for f in findings if f.anomaly] == []
    assert len(findings) == 1 + 2 * 3 + 1 + 1
    same = drift.compare(days["monday"], days["monday"])
    assert {f.value for f in same} == {0.0}


def test_a_shifted_log_is_found_by_the_measure_it_was_shifted_in(days) -> None:
    found = _by_name(drift.compare(days["shifted"], days["monday"]))
    anomalies = {key for key, finding in found.items() if finding.anomaly}
    assert anomalies == {
        ("label", "shift of the rate"),
        ("user", "share of new values"),
        ("city", "L-infinity"),
        ("place", "L-infinity"),
        ("price", "Jensen-Shannon"),
    }
    city = found["city", "L-infinity"]
    assert city.value == pytest.approx(5 / 8 - 1 / 4, abs=0.05)
    assert str(city).startswith(f"city: L-infinity {city.value:.3g}, threshold 0.1 (most by")
    assert "most by 'Dd': share 0.2" in str(city)
    assert found["user", "share of new values"].value == pytest.approx(0.3, abs=0.04)
    assert found["label", "shift of the rate"].value == pytest.approx(0.15, abs=0.05)


def test_l_infinity_and_new_values_are_those_of_the_raw_rows(days) -> None:
    found = _by_name(drift.compare(days["shifted"], days["monday"]))
    shares = {}
    for name in ("shifted", "monday"):
        arrays = [days[name].arrays(s)["ids"][:, 1] for s in ("train", "validation", "test")]
        ids, counts = np.unique(np.concatenate(arrays), return_counts=True)
        tokens = days[name].tokens()
        shares[name] = {tokens[i]: c / 1500 for i, c in zip(ids, counts, strict=True)}
    wanted = max(
        abs(shares["shifted"].get(token, 0) - shares["monday"].get(token, 0))
        for token in {**shares["shifted"], **shares["monday"]}
    )
    assert found["city", "L-infinity"].value == pytest.approx(wanted, abs=1e-12)


def test_thresholds_are_those_of_the_spec(days) -> None:
    manifest = dict(days["shifted"].manifest)
    loose = {"l_infinity": 1, "jensen_shannon": 1, "new_values": 1, "label_rate": 1}
    manifest["spec"] = {**manifest["spec"], "thresholds": loose}
    relaxed = PreparedDataset(days["shifted"].path, manifest)
    assert not any(f.anomaly for f in drift.compare(relaxed, days["monday"]))


def test_other_fields_cannot_be_compared(days, prepared: PreparedDataset) -> None:
    with pytest.raises(PrepareError, match="is not the same in"):
        drift.compare(prepared, days["monday"])


@pytest.mark.parametrize(
    ("p", "q", "wanted"),
    [
        ([1, 1], [5, 5], 0.0),
        ([3, 0], [0, 7], 1.0),
        ([1, 0], [1, 1], 0.311278),
        ([0, 0], [1, 1], 0.0),
    ],
)
def test_jensen_shannon_of_known_histograms(p: list, q: list, wanted: float) -> None:
    assert drift.jensen_shannon(np.array(p), np.array(q)) == pytest.approx(wanted, abs=1e-6)
    assert drift.jensen_shannon(np.array(q), np.array(p)) == pytest.approx(wanted, abs=1e-6)


def test_a_finding_is_plain_data() -> None:
    finding = drift.Finding("city", "L-infinity", 0.2, 0.1)
    assert finding.plain() == {**dataclasses.asdict(finding), "anomaly": True}
    assert not drift.Finding("city", "L-infinity", 0.1, 0.1).anomaly
