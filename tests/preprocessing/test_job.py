"""The job's promises: nothing lost, same result on any runner, whole or absent, one clear line."""

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.analysis import tokens_of
from preprocessing.errors import PrepareError
from preprocessing.job import append, prepare
from preprocessing.prepared import PreparedDataset
from preprocessing.schema import DatasetSpec

from .conftest import FIELDS, rows, spec_of, write_csv

FEW = [f for f in FIELDS if f["name"] in ("user", "title", "brand", "price", "age", "genres")]
SMALL = {"fields": [{"name": "user", "kind": "categorical"}, {"name": "price", "kind": "numeric"}]}


def test_counters_add_up_and_bad_rows_are_kept_with_reasons(tmp_path: Path) -> None:
    log = rows(400)
    write_csv(tmp_path / "clicks.csv", log)
    with (tmp_path / "clicks.csv").open("a") as file:
        file.write("1,u1\n2" + ",x" * 12 + "\n")
    spec = spec_of(label={"column": "clicked"}, **SMALL)
    logging.getLogger().setLevel(logging.WARNING)
    found = prepare(spec, tmp_path / "out", tmp_path)
    assert logging.getLogger().level == logging.WARNING, "quiet while it works, not for ever"
    counters = found.manifest["counters"]
    assert (counters["rows_in"], counters["rows_out"], counters["rejected"]) == (402, 400, 2)
    assert counters["compared_with_graph"] > 0
    text = "".join(p.read_text() for p in (tmp_path / "out" / "rejected").iterdir())
    reasons = [json.loads(line)["reason"] for line in text.splitlines()]
    assert reasons[0] == "2 columns, expected 13"
    assert "price" in reasons[1] or "label" in reasons[1]
    splits = found.manifest["splits"]
    assert sum(s["rows"] for s in splits.values()) == 400
    clicks = sum(int(row["clicked"]) for row in log)
    assert sum(s["positives"] for s in splits.values()) == clicks


@pytest.mark.parametrize(
    ("lines", "change", "message"),
    [
        (
            ["1,a,1"] * 9 + ["1,a,x"],
            {},
            "1 of 10 rows rejected, more than max_rejected 1.00%; "
            "first: column 'price': not a number: 'x'",
        ),
        (["7,a,1"] * 9, {}, "first: label 'clicked': expected 0 or 1, got '7'"),
        ([], {}, "clicks.csv: nothing after the header"),
        (
            ["1,a,1"],
            {"fields": [{"name": "usr", "kind": "categorical"}]},
            "no column 'usr'; did you mean 'user'?",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, lines: list[str], change: dict[str, Any], message: str
) -> None:
    (tmp_path / "clicks.csv").write_text("\n".join(["clicked,user,price", *lines]) + "\n")
    with pytest.raises(ValueError) as caught:
        prepare(spec_of(**{**SMALL, **change}), tmp_path / "out", tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["clicks.csv"]


def assert_same(found: PreparedDataset, wanted: PreparedDataset) -> None:
    """The same content, and the same statistics of it."""
    assert found.manifest["content_hash"] == wanted.manifest["content_hash"]
    for name in ("stats.json", "schema.pbtxt"):
        assert (found.path / name).read_text() == (wanted.path / name).read_text()


def test_blocks_do_not_change_the_content(log_folder: Path, tmp_path: Path) -> None:
    one = prepare(spec_of(fields=FEW), tmp_path / "one", log_folder)
    source = {"format": "csv", "files": ["clicks.csv"], "block_bytes": 20_000}
    many = prepare(spec_of(source=source, fields=FEW), tmp_path / "many", log_folder)
    assert len(many.manifest["splits"]["train"]["files"]) > 3
    assert many.tokens() == one.tokens()
    assert_same(many, one)


SPLITS: dict[str, dict[str, Any]] = {
    "ratio, every kind of field": {"split": {"kind": "ratio", "seed": 3}, "fields": FIELDS},
    "hash of the row": {"split": {"kind": "hash"}},
    "hash of a key": {"split": {"kind": "hash", "key": ["user"]}},
    "order": {"split": {"kind": "order"}},
    "order, rest at random": {"split": {"kind": "order", "rest": "random"}},
    "column": {"split": {"kind": "column", "column": "ts", "validation_from": 88e7 + 800}},
    "files": {"split": {"kind": "files", "train": ["clicks.csv"], "test": ["late.csv"]}},
    "negatives": {
        "label": {"constant": 1},
        "negatives": {"per_positive": 2, "column": "brand", "key": ["user"]},
        "fields": [
            {"name": "user", "kind": "categorical"},
            {"name": "brand", "kind": "categorical"},
            {"name": "price", "kind": "numeric", "transform": "z_score"},
        ],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SPLITS))
def test_neither_processes_nor_blocks_change_the_content(tmp_path: Path, kind: str) -> None:
    log = rows(1500)
    write_csv(tmp_path / "clicks.csv", log)
    write_csv(tmp_path / "late.csv", log[:200])
    found = {}
    for workers, block_bytes in ((1, 1 << 25), (1, 7_000), (2, 20_000)):
        source = {"format": "csv", "files": ["clicks.csv"], "block_bytes": block_bytes}
        spec = spec_of(**{"source": source, "fields": FEW, **SPLITS[kind]})
        out = tmp_path / f"{workers}-{block_bytes}"
        found[out.name] = prepare(spec, out, tmp_path, workers=workers)
    first, *others = found.values()
    for other in others:
        assert_same(other, first)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreparedDataset]:
    """A folder with two days, and a dataset of the first."""
    folder = tmp_path_factory.mktemp("days")
    for day in (1, 2):
        write_csv(folder / f"day{day}.csv", rows(300 * day, seed=day))
    source = {"format": "csv", "files": ["day1.csv"]}
    return folder, prepare(spec_of(source=source, fields=FEW), folder / "first", folder)


def test_append_equals_a_full_run(days: tuple[Path, PreparedDataset], tmp_path: Path) -> None:
    folder, first = days
    source = {"format": "csv", "files": ["day1.csv", "day2.csv"]}
    full = prepare(spec_of(source=source, fields=FEW), tmp_path / "full", folder)
    grown = append(["day2.csv"], tmp_path / "grown", folder, base=first.path)
    assert_same(grown, full)
    assert [len(s["files"]) for s in grown.manifest["spans"]] == [1, 1]
    with pytest.raises(PrepareError, match="no file that the dataset does not have"):
        append(["day2.csv"], tmp_path / "more", folder, base=grown.path)


def test_keep_ids_moves_no_id(days: tuple[Path, PreparedDataset], tmp_path: Path) -> None:
    folder, first = days
    grown = append(["day2.csv"], tmp_path / "kept", folder, base=first.path, keep_ids=True)
    old, new = first.tokens(), grown.tokens()
    assert new[: len(old)] == old
    assert len(set(new)) == len(new) > len(old)
    assert grown.rows("train") > first.rows("train")
    assert tokens_of(grown.vocabulary(), spec_of(fields=FEW)) == new


def test_negatives_are_new_to_their_user_and_seeded(tmp_path: Path) -> None:
    log = [
        {"clicked": "1", "user": f"u{i % 20}", "item": f"i{i * i % 37}", "hour": str(i)}
        for i in range(300)
    ]
    write_csv(tmp_path / "clicks.csv", log)
    spec = spec_of(
        label={"constant": 1},
        fields=[{"name": n, "kind": "categorical"} for n in ("user", "item", "hour")],
        negatives={"per_positive": 2, "column": "item", "key": ["user"]},
    )
    found = prepare(spec, tmp_path / "out", tmp_path)
    counters = found.manifest["counters"]
    assert (counters["rows_in"], counters["sampled"], counters["rows_out"]) == (300, 600, 900)
    got = [row for split in ("train", "validation", "test") for row in found.raw(split).to_pylist()]
    met = {(row["user"], row["item"]) for row in log}
    negatives = [row for row in got if row["label"] == 0]
    assert len(negatives) == 600
    assert not any((row["user"], row["item"]) in met for row in negatives)
    assert {row["item"] for row in negatives} <= {row["item"] for row in log}
    by_hour: dict[str, set[str]] = {}
    for row in negatives:
        by_hour.setdefault(row["hour"], set()).add(row["item"])
    assert all(len(items) == 2 for items in by_hour.values())
    document = spec.resolved()
    document["source"]["block_bytes"] = 500
    assert_same(prepare(DatasetSpec.parse(document), tmp_path / "again", tmp_path), found)


def test_order_split_takes_the_first_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "clicks.csv", [{"clicked": "1", "user": str(i)} for i in range(1000)])
    spec = spec_of(
        fields=[{"name": "user", "kind": "categorical"}],
        split={"kind": "order", "train": 0.5, "validation": 0.25, "test": 0.25},
        source={"format": "csv", "files": ["clicks.csv"], "block_bytes": 1500},
    )
    found = prepare(spec, tmp_path / "out", tmp_path)
    assert found.raw("train")["user"].to_pylist() == [str(i) for i in range(500)]
    assert found.raw("test")["user"].to_pylist() == [str(i) for i in range(750, 1000)]


def test_kill_in_mid_job_leaves_the_earlier_dataset(tmp_path: Path) -> None:
    write_csv(tmp_path / "clicks.csv", rows(300))
    out = tmp_path / "out"
    first = prepare(spec_of(**SMALL), out, tmp_path)
    before = first.manifest["content_hash"]
    code = (
        "import sys, os, signal, pathlib\n"
        "from preprocessing import finish, job\n"
        "from tests.preprocessing.conftest import spec_of\n"
        "finish.finish = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "job.prepare(spec_of(min_count=5), sys.argv[1], sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert PreparedDataset.load(out).manifest["content_hash"] == before
    left = [p for p in tmp_path.iterdir() if p.name.startswith(".out.new")]
    assert len(left) == 1
    again = prepare(spec_of(**SMALL), out, tmp_path)
    assert again.manifest["content_hash"] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clicks.csv", "out"]


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "clicks.csv", rows(100))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("preprocessing.records.ShardWriter.write", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare(spec_of(**SMALL), tmp_path / "out", tmp_path)
    assert "while running" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["clicks.csv"]


def test_weight_and_group_travel_with_the_rows(tmp_path: Path) -> None:
    log = [{"clicked": "1", "user": f"u{i}", "price": "1", "w": str(i / 4)} for i in range(50)]
    write_csv(tmp_path / "clicks.csv", log)
    found = prepare(spec_of(weight="w", group="user", **SMALL), tmp_path / "out", tmp_path)
    arrays, raw = found.arrays("train"), found.raw("train")
    assert arrays["group"].tolist() == [u.encode() for u in raw["user"].to_pylist()]
    np.testing.assert_array_equal(
        arrays["weight"] * 4, [int(u[1:]) for u in raw["user"].to_pylist()]
    )
    _, label, weight = next(iter(found.dataset("train", 8)))
    assert label.shape == weight.shape == (8,)


def test_something_else_at_the_target_is_not_replaced(tmp_path: Path) -> None:
    write_csv(tmp_path / "clicks.csv", rows(50))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a prepared dataset"):
        prepare(spec_of(**SMALL), tmp_path / "out", tmp_path)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
