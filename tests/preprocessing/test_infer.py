"""A first spec from the data: what is guessed, and that the guess prepares as it is."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from preprocessing.column_kinds import Column, guess, label_rank, time_format
from preprocessing.errors import SourceError
from preprocessing.infer import infer
from preprocessing.job import prepare
from preprocessing.schema import DatasetSpec

from .conftest import rows, write_csv

_DRAW = random.Random(3)
_CLICKS = [_DRAW.randint(0, 1) for _ in range(300)]


def _csv(folder: Path) -> Path:
    return write_csv(folder / "ads.csv", rows(300))


def _tsv(folder: Path) -> Path:
    """TSV in gzip, CRLF, no header, missing cells as empty text and NULL."""
    lines = [
        "\t".join(
            [
                str(c),
                _DRAW.choice(["", "7", "3", "900", "0"]),
                f"{_DRAW.randint(0, 30):08x}",
                _DRAW.choice(["NULL", "de", "fr"]),
            ]
        )
        for c in _CLICKS
    ]
    path = folder / "part-0.gz"
    path.write_bytes(gzip.compress(("\r\n".join(lines) + "\r\n").encode()))
    return path


def _parquet(folder: Path) -> Path:
    """Integer ids with nulls, floats with nulls, lists, a struct, a time stamp."""
    ids = [_DRAW.choice([None, *range(10**9, 10**9 + 30)]) for _ in _CLICKS]
    columns = {
        "clicked": pa.array([bool(c) for c in _CLICKS]),
        "user_id": pa.array(ids, pa.int64()),
        "price": pa.array([_DRAW.choice([None, 1.5, 2.25, 99.0]) for _ in _CLICKS]),
        "tags": pa.array([_DRAW.choice([None, [], ["a"], ["a", "b"]]) for _ in _CLICKS]),
        "nested": pa.array([{"x": 1} for _ in _CLICKS]),
        "at": pa.array([1_700_000_000 + 7200 * i for i in range(300)], pa.timestamp("s")),
    }
    path = folder / "log.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def _jsonl(folder: Path) -> Path:
    path = folder / "events.jsonl"
    events = [
        {"event": "click" if c else "view", "item": 7 + i % 5, "tags": ["x", "y"][: i % 3]}
        | ({"when": f"2024-05-{1 + i % 28:02d}T10:00:00Z"} if i % 4 else {})
        for i, c in enumerate(_CLICKS)
    ]
    path.write_text("\n".join(map(json.dumps, events)) + "\n")
    return path


def _libfm(folder: Path) -> Path:
    path = folder / "train.libfm"
    path.write_text(
        "".join(f"{2 * c - 1} {i % 7}:1 {10 + i % 4}:1\n" for i, c in enumerate(_CLICKS))
    )
    return path


MADE = {"csv": _csv, "tsv": _tsv, "parquet": _parquet, "jsonl": _jsonl, "libfm": _libfm}
WANTED = {
    "csv": {
        "user": "categorical",
        "ad_title": "categorical",
        "price": "numeric",
        "genres": "multivalued",
        "tags": "multivalued",
        "day_weekday": "time",
    },
    "tsv": {"c2": "categorical", "c3": "categorical", "c4": "categorical"},
    "parquet": {
        "user_id": "categorical",
        "price": "numeric",
        "tags": "multivalued",
        "at_hour": "time",
        "at_weekday": "time",
    },
    "jsonl": {"item": "categorical", "tags": "multivalued", "when_weekday": "time"},
    "libfm": {"f1": "categorical", "f2": "categorical"},
}


@pytest.mark.parametrize("form", MADE)
def test_inferred_spec_names_kinds_and_label(form: str, tmp_path: Path) -> None:
    log = MADE[form](tmp_path)
    text = infer(log, tmp_path)
    (tmp_path / "spec.yaml").write_text(text)
    spec = DatasetSpec.load(tmp_path / "spec.yaml")
    assert spec.source.format == form
    assert spec.source.files == (log.name,)
    kinds = {f.name: f.kind for f in spec.fields}
    assert WANTED[form].items() <= kinds.items()
    label = {"tsv": "c1", "jsonl": "event", "libfm": "label"}.get(form, "clicked")
    assert spec.label.column == label
    assert label not in {f.column or f.name for f in spec.fields}


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_inferred_spec_prepares_every_row(form: str, tmp_path: Path) -> None:
    MADE[form](tmp_path)
    (tmp_path / "spec.yaml").write_text(infer(next(tmp_path.iterdir()), tmp_path))
    done = prepare(DatasetSpec.load(tmp_path / "spec.yaml"), tmp_path / "out")
    counters = done.manifest["counters"]
    assert (counters["rows_in"], counters["rows_out"], counters["rejected"]) == (300, 300, 0)
    if form == "tsv":
        assert "c4=NULL" not in done.tokens()
        assert {"c4=de", "c4=fr", "c4="} <= set(done.tokens())
    if form == "parquet":
        assert {"user_id=", "user_id=1000000000", "tags=a", "tags=b"} <= set(done.tokens())
        assert sum(s["positives"] for s in done.manifest["splits"].values()) == sum(_CLICKS)


def test_comments_say_cardinality_missing_share_and_what_was_left_out(tmp_path: Path) -> None:
    lines = ["id,clicked,empty,user,a b,a_b"]
    lines += [f"r{i},{i % 2},,u{i % 3},{'' if i % 4 else 'x'},{i % 5}" for i in range(200)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    text = infer(tmp_path / "log.csv", tmp_path)
    assert "# - {name: id, kind: categorical}  # left out: 200 values, nearly every row" in text
    assert "# - {name: empty, kind: categorical}  # left out: always missing" in text
    assert "{name: a_b, kind: categorical, column: a b}  # 1 values, 75.0% missing" in text
    assert "served under the same name" in text
    assert "- {name: user, kind: categorical}  # 3 values" in text
    assert "label: {column: clicked}  # 50.0% positive" in text
    assert [f["name"] for f in yaml.safe_load(text)["fields"]] == ["user", "a_b"]


def test_doubtful_missing_marks_count_only_among_numbers(tmp_path: Path) -> None:
    lines = ["clicked;price;country"]
    lines += [f"{i % 2};{'?' if i % 9 == 0 else i / 7:};{['NA', 'DE'][i % 2]}" for i in range(90)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    source = yaml.safe_load(infer(tmp_path / "log.csv", tmp_path))["source"]
    assert source == {"format": "csv", "delimiter": ";", "files": ["log.csv"], "missing": ["?"]}


@pytest.mark.parametrize(
    ("value", "name", "wanted"),
    [
        ("1700000000", "ts", "unix"),
        ("1700000000123", "ts", "unix_ms"),
        ("14102100", "hour", "%y%m%d%H"),
        ("14102100", "campaign", None),
        ("20240131", "day", "%Y%m%d"),
        ("2024-01-31", "x", "iso"),
        ("2024-01-31T23:59", "x", "iso"),
        ("31.12.2023", "x", "%d.%m.%Y"),
        ("2024-13-31", "x", None),
    ],
)
def test_time_formats(value: str, name: str, wanted: str | None) -> None:
    column = Column.of(name, pa.chunked_array([[value, value, ""]]))
    assert time_format(column) == wanted


def test_ids_are_categories_and_counts_are_numbers() -> None:
    spread = Column.of("c1", pa.chunked_array([[str(i) for i in range(1, 500)]]))
    counts = Column.of("n", pa.chunked_array([[str(i * i // 9) for i in range(60)] + ["0"] * 90]))
    zeros = Column.of("post", pa.chunked_array([[f"0{i}" for i in range(50)]]))
    assert [guess(c).fields[0]["kind"] for c in (spread, counts, zeros)] == [
        "categorical",
        "numeric",
        "categorical",
    ]


def test_label_by_name_wins_over_another_binary_column() -> None:
    flag = Column.of("is_mobile", pa.chunked_array([["0", "1"]]))
    click = Column.of("click", pa.chunked_array([["0", "1"]]))
    rating = Column.of("rating", pa.chunked_array([["1", "3", "5"]]))
    plain = Column.of("city", pa.chunked_array([["a", "b"]]))
    ranks = [label_rank(c) for c in (click, rating, flag, plain)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] == 0 < ranks[-2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"just some words\n", "nothing|no rows|delimiter|no column"),
        (b"oneword\nanother\n", "is it a log"),
        (b"a\x00b\x00", "zero bytes"),
        (b'{"a": 1}\n{"a": \n', "not one JSON object a line"),
    ],
)
def test_a_file_that_is_no_log_is_one_clear_line(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        infer(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_avazu_and_criteo_files(shared_data: Path) -> None:
    avazu = yaml.safe_load(infer(shared_data / "avazu" / "avazu_random_23k.csv"))
    assert avazu["label"] == {"column": "click"}
    kinds = {f["name"]: f["kind"] for f in avazu["fields"]}
    assert "id" not in kinds
    assert kinds.pop("hour_hour") == kinds.pop("hour_weekday") == "time"
    # Small integers, mostly the smallest: no different from a count but for their meaning.
    assert {name for name, kind in kinds.items() if kind != "categorical"} <= {"C19", "C21"}
    criteo = yaml.safe_load(infer(shared_data / "criteo" / "criteo_head_10k.txt"))
    assert criteo["source"]["header"] is False
    assert criteo["label"] == {"column": "c1"}
    numeric = {f["name"] for f in criteo["fields"] if f["kind"] == "numeric"}
    assert {f"c{i}" for i in range(2, 15)} - numeric == {"c11"}
    assert numeric <= {f"c{i}" for i in range(2, 15)}
