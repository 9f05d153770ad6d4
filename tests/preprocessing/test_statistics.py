"""Statistics made by the job, against the same counted row by row from the raw rows."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from preprocessing import statistics, summary
from preprocessing.prepared import PreparedDataset

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def stats(prepared: PreparedDataset) -> dict:
    return json.loads((prepared.path / "stats.json").read_text())


def _field(stats: dict, name: str) -> dict:
    return next(f for f in stats["fields"] if f["name"] == name)


@pytest.mark.parametrize("split", SPLITS)
def test_categories_are_counted_per_split(prepared, stats, split) -> None:
    raw = prepared.raw(split)
    values, label = raw["user"].to_pylist(), raw["label"].to_pylist()
    found = _field(stats, "user")["splits"][split]
    known = set(prepared.vocabulary()["value"].to_pylist())
    assert found["rows"] == len(values)
    assert found["infrequent"] == sum(v not in known for v in values)
    assert found["infrequent_share"] == pytest.approx(found["infrequent"] / len(values), rel=1e-5)
    rows = Counter(v for v in values if v in known)
    clicks = Counter(v for v, y in zip(values, label, strict=True) if y)
    assert found["distinct"] == len(rows)
    assert len(found["top"]) == min(20, len(rows))
    assert [t["rows"] for t in found["top"]] == sorted(rows.values(), reverse=True)[:20]
    for top in found["top"]:
        assert (top["rows"], top["positives"]) == (rows[top["value"]], clicks[top["value"]])
        assert top["label_rate"] == pytest.approx(top["positives"] / top["rows"], rel=1e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_missing_values_of_every_kind(prepared, stats, split) -> None:
    raw = prepared.raw(split)
    brand, ts = raw["brand"].to_pylist(), raw["ts"].to_pylist()
    genres = [
        [g for g in text.split("|") if g not in ("", "-")] for text in raw["genres"].to_pylist()
    ]
    wanted = {
        "brand": sum(v in ("", "n/a") for v in brand),
        "price": raw["price"].null_count,
        "age": raw["age"].null_count,
        "score": raw["score"].null_count,
        "genres": sum(not g for g in genres),
        "tags": raw["tags"].to_pylist().count(""),
        "hour": sum(v in ("", "noon") for v in ts),
        "user_hour": 0,
    }
    for name, count in wanted.items():
        found = _field(stats, name)["splits"][split]
        assert found["missing"] == count, name
    found = _field(stats, "genres")["splits"][split]
    assert found["values"] - found["missing"] == sum(len(g[:2]) for g in genres)


def test_cardinality_counts_rare_values_too(prepared, stats) -> None:
    brand = {v[:2] for v in prepared.raw("train")["brand"].to_pylist() if v not in ("", "n/a")}
    found = _field(stats, "brand")
    assert found["cardinality"] == len(brand) == 6
    assert found["splits"]["train"]["distinct"] == 4
    assert _field(stats, "tags")["cardinality"] is None


@pytest.mark.parametrize("split", SPLITS)
def test_numbers_have_mean_quantiles_and_histogram_of_raw_values(prepared, stats, split) -> None:
    raw = prepared.raw(split)
    for name in ("price", "visits", "depth", "age"):
        found = _field(stats, name)["splits"][split]
        pairs = [
            (x, y) for x, y in zip(raw[name].to_pylist(), raw["label"].to_pylist(), strict=True)
        ]
        pairs = [(x, y) for x, y in pairs if x is not None]
        x, y = (np.array(column) for column in zip(*pairs, strict=True))
        assert found["mean"] == pytest.approx(x.mean(), rel=1e-5, abs=1e-6)
        assert found["min"] == pytest.approx(x.min(), rel=0.04)
        assert found["max"] == pytest.approx(x.max(), rel=0.04)
        middle = np.sort(x)[math.ceil(0.5 * len(x)) - 1]
        assert found["quantiles"]["0.5"] == pytest.approx(middle, rel=0.04)
        bins = found["histogram"]
        assert len(bins["rows"]) <= 20
        for low, high, rows, clicks in zip(*bins.values(), strict=True):
            # Away from zero, a bin's far edge belongs to the next one.
            above = (x > low) | ((x == low) & (low >= 0))
            inside = above & ((x < high) | ((x == high) & (high <= 0)))
            assert (inside.sum(), y[inside].sum()) == (rows, clicks)
        assert sum(bins["rows"]) == len(x)


def test_label_rates_of_the_splits_are_those_of_the_manifest(prepared, stats) -> None:
    for split, found in stats["splits"].items():
        label = prepared.arrays(split)["label"]
        assert found["rows"] == len(label)
        assert found["label_rate"] == pytest.approx(label.mean(), rel=1e-5)


def test_blocks_in_any_grouping_add_up_to_the_same_table(prepared) -> None:
    spec_rows = prepared.raw("train").drop(["label"])
    from preprocessing.schema import DatasetSpec

    spec = DatasetSpec.parse(prepared.manifest["spec"])
    arrays = prepared.arrays("train")
    served = spec_rows.combine_chunks().to_batches()[0]
    whole = statistics.RowStatistics(spec, prepared.vocabulary())
    train = np.zeros(len(served), np.uint8)
    whole.add(train, served, arrays["ids"], arrays["values"], arrays["label"])
    parts = []
    for at in (slice(700, None), slice(0, 5), slice(5, 700)):
        one = statistics.RowStatistics(spec, prepared.vocabulary())
        start, stop, _ = at.indices(len(served))
        piece = served.slice(start, stop - start)
        one.add(train[at], piece, arrays["ids"][at], arrays["values"][at], arrays["label"][at])
        parts.append(one.blob())
    total = statistics._from_bytes(statistics.merge_blobs(parts))
    order = [(name, "ascending") for name in ("split", "kind", "field", "key")]
    saved = pq.read_table(prepared.path / statistics.TABLE)
    saved = saved.filter(pa.compute.equal(saved["split"], 0))
    assert total.sort_by(order) == saved
    assert statistics._from_bytes(whole.blob()).sort_by(order) == saved


def test_bins_hold_their_values_and_are_narrow() -> None:
    x = np.float32([-1e30, -7.3, -1.0, -1e-3, 0.0, 1e-3, 1.0, 2.5, 63.0, 8e9])
    keys = statistics.numbers.ordered_bits(x) >> np.uint32(18)
    low, high = statistics.bin_edges(keys)
    assert ((low <= x) & (x <= high)).all()
    assert (np.diff(keys.astype(int)) > 0).all()
    assert (high - low <= np.abs(low) * 0.04).all()


def test_schema_is_tensorflow_metadata_in_text_form(prepared) -> None:
    text = (prepared.path / summary.SCHEMA).read_text()
    schema = text_format.Parse(text, schema_pb2.Schema())
    by_name = {feature.name: feature for feature in schema.feature}
    assert list(by_name) == [column["name"] for column in prepared.manifest["columns"]]
    assert by_name["user"].type == schema_pb2.BYTES
    assert by_name["user"].drift_comparator.infinity_norm.threshold == pytest.approx(0.1)
    assert by_name["age"].type == schema_pb2.FLOAT
    assert by_name["age"].float_domain.max >= 90
    (domain,) = schema.string_domain
    assert by_name["ad_title"].domain == domain.name
    assert set(domain.value) == {f'Sale, "{i}" für alle' for i in range(10)}


def test_stats_stay_small(prepared: PreparedDataset) -> None:
    assert Path(prepared.path / summary.STATS).stat().st_size < 150_000
