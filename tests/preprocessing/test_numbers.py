"""Numbers and times: against plain arithmetic, and independent of how the rows are grouped."""

import datetime as dt
import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from preprocessing import numbers, timeparts
from preprocessing.schema import Numeric, SpecError, Time

RNG = np.random.default_rng(3)


def field(**options: Any) -> Numeric:
    return Numeric(name="x", kind="numeric", **options)


def test_transforms_by_hand() -> None:
    x = np.array([-1, 0, 2, 2.5, 100, np.nan], np.float32)
    squared = numbers.transformed(x, field(transform="log_squared"), np.empty(0))
    np.testing.assert_allclose(squared[:5], [-1, 0, 2, np.log(2.5) ** 2, np.log(100) ** 2])
    assert np.isnan(squared[5])
    log = numbers.transformed(x, field(transform="log1p", clip=(-0.5, 50)), np.empty(0))
    np.testing.assert_allclose(log[[0, 4]], [-np.log(1.5), np.log(51)])
    scaled = numbers.transformed(x, field(transform="min_max"), np.array([0.0, 2.0]))
    np.testing.assert_allclose(scaled[:5], [0, 0, 1, 1, 1])


@pytest.mark.parametrize("transform", ["z_score", "min_max", "quantiles"])
def test_statistics_do_not_depend_on_grouping(transform: str) -> None:
    x = (RNG.normal(size=5000) * 10.0 ** RNG.integers(-6, 7, 5000)).astype(np.float32)
    whole = numbers.measure(x, transform)
    cuts = np.sort(RNG.integers(0, 5000, 7))
    parts = [numbers.measure(p, transform) for p in np.split(x, cuts)]
    random.Random(1).shuffle(parts)
    merged: dict[str, Any] = {}
    for part in parts:
        merged = numbers.merge(merged, json.loads(json.dumps(part)))
    first = numbers.constants(json.loads(json.dumps(whole)), field(transform=transform))
    assert numbers.constants(merged, field(transform=transform)) == first
    if transform == "z_score":
        exact = x.astype(np.longdouble)
        np.testing.assert_allclose(first, [float(exact.mean()), float(exact.std())], rtol=1e-12)


def test_quantile_boundaries_fill_the_buckets_evenly() -> None:
    x = RNG.exponential(100, 20_000).astype(np.float32)
    found = numbers.constants(numbers.measure(x, "quantiles"), field(transform="quantiles"))
    share = np.bincount(np.searchsorted(found, x, side="right"), minlength=10) / len(x)
    np.testing.assert_allclose(share, 0.1, atol=0.005)


def test_constants_of_nothing_are_harmless() -> None:
    assert numbers.constants({}, field(transform="z_score")) == [0.0, 1.0]
    assert numbers.constants({}, field(transform="min_max")) == [0.0, 1.0]
    assert numbers.constants({}, field(transform="quantiles", buckets=3)) == [numbers.LARGEST] * 2


def moments() -> list[dt.datetime]:
    start = dt.datetime(1969, 1, 1, tzinfo=dt.UTC)
    return [start + dt.timedelta(hours=h) for h in range(0, 24 * 36_500, 997)]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("hour", lambda t: t.hour),
        ("weekday", lambda t: t.weekday()),
        ("weekend", lambda t: int(t.weekday() >= 5)),
        ("day", lambda t: t.day),
        ("month", lambda t: t.month),
        ("year", lambda t: t.year),
        ("date", lambda t: int(t.strftime("%Y%m%d"))),
    ],
)
def test_time_parts_agree_with_the_calendar(part: str, expected: Any) -> None:
    times = moments()
    wanted = [str(expected(t)) for t in times]
    unix = pa.array([str(int(t.timestamp())) for t in times])
    assert timeparts.part_texts(unix, _time(part, "unix")).to_pylist() == wanted
    iso = pa.array([t.strftime("%Y-%m-%dT%H:%M") for t in times])
    assert timeparts.part_texts(iso, _time(part, "iso")).to_pylist() == wanted


def _time(part: str, form: str, offset: float = 0.0) -> Time:
    return Time(name="t", kind="time", column="c", part=part, format=form, utc_offset_hours=offset)


def test_two_digit_years_offsets_and_bad_stamps() -> None:
    found = timeparts.part_texts(
        pa.array(["14102123", "69010100", "1410212", ""]), _time("year", "%y%m%d%H")
    )
    assert found.to_pylist() == ["2014", "1969", "", ""]
    hour = timeparts.part_texts(pa.array(["0", "86399.9", "-1"]), _time("hour", "unix", 1.5))
    assert hour.to_pylist() == ["1", "1", "1"]
    with pytest.raises(SpecError, match="'%b' is not one of"):
        timeparts.layout("%d-%b-%Y")
