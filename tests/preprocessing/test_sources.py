"""Reading: all formats give the same rows, blocks cut nothing, and bad rows are explained."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing import columnar, sources
from preprocessing.errors import SourceError
from preprocessing.schema import DatasetSpec

from .conftest import write_csv

LOG = [
    {"y": "1", "u": "7", "t": 'a, "b"', "n": "1.5", "m": "x|y"},
    {"y": "0", "u": "", "t": "two\nlines", "n": "", "m": ""},
    {"y": "0", "u": "9", "t": "ü", "n": "-2", "m": "z"},
]


def spec_for(**source: Any) -> DatasetSpec:
    return DatasetSpec.parse(
        {
            "name": "a",
            "source": source,
            "label": {"column": "y"},
            "fields": [
                {"name": "u", "kind": "categorical"},
                {"name": "t", "kind": "categorical"},
                {"name": "n", "kind": "numeric"},
                {"name": "m", "kind": "multivalued"},
            ],
        }
    )


def read_all(spec: DatasetSpec, root: Path) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    wanted = sources.wanted_columns(spec)
    found, rejected = [], []
    for block in sources.plan(spec, root):
        for chunk in sources.read(block, spec.source, wanted):
            batch = columnar.plain(chunk.batch)
            found += [{k[2:]: v for k, v in row.items()} for row in batch.to_pylist()]
            rejected += chunk.rejected
    return found, rejected


def expected(log: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [{**row, "n": float(row["n"]) if row["n"] else None} for row in log]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    order = ["u", "t", "n", "m", "y"]
    assert [[r[k] for k in order] for r in found] == [[r[k] for k in order] for r in wanted]


def test_csv_with_quotes_newlines_and_crlf(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", LOG, end="\r\n")
    found, rejected = read_all(spec_for(files=["x.csv"]), tmp_path)
    same(found, expected(LOG))
    assert rejected == []


def test_tsv_gzip_without_header_and_missing_marks(tmp_path: Path) -> None:
    text = "1\t7\t'q\"\tNA\tx|y\r\n0\tNA\tb\t3\t\r\n"
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(text.encode()))
    source = {"format": "tsv", "header": False, "columns": ["y", "u", "t", "n", "m"]}
    spec = spec_for(files=["x.tsv.gz"], missing=["NA"], **source)
    found, _ = read_all(spec, tmp_path)
    same(
        found,
        [
            {"y": "1", "u": "7", "t": "'q\"", "n": None, "m": "x|y"},
            {"y": "0", "u": "", "t": "b", "n": 3.0, "m": ""},
        ],
    )


def test_parquet_with_integer_ids_nulls_and_lists(tmp_path: Path) -> None:
    table = pa.table(
        {
            "y": pa.array([1, 0, 0]),
            "u": pa.array([7, None, 9], pa.int64()),
            "t": pa.array(['a, "b"', "two\nlines", "ü"]).dictionary_encode(),
            "n": pa.array([1.5, None, -2]),
            "m": pa.array([["x", "y"], None, ["z"]]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    found, _ = read_all(spec_for(files=["x.parquet"], format="parquet"), tmp_path)
    same(found, expected(LOG))


def test_json_lines_with_lists_and_bad_lines(tmp_path: Path) -> None:
    lines = [
        {"y": 1, "u": 7, "t": 'a, "b"', "n": 1.5, "m": ["x", "y"]},
        {"y": 0, "t": "two\nlines"},
        {"y": 0.0, "u": "9", "t": "ü", "n": "-2", "m": "z", "more": {"a": 1}},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"y": 1\n{"y": {"a": 1}}\n[1]\n'
    (tmp_path / "x.jsonl").write_text(text)
    found, rejected = read_all(spec_for(files=["x.jsonl"], format="jsonl"), tmp_path)
    same(found, expected(LOG))
    assert len(rejected) == 3
    assert all(reason.startswith("not a JSON object") for reason, _ in rejected)


def test_libfm_by_position_and_as_one_list(tmp_path: Path) -> None:
    text = "1 10:1 20:1.0 \r\n-1 11:1 21:1\r\n-1 11:1\n1 12:0.5 22:1\n"
    (tmp_path / "x.libfm").write_text(text)
    document = {
        "name": "a",
        "source": {"format": "libfm", "files": ["x.libfm"], "columns": ["u", "i"]},
        "label": {"column": "label"},
        "fields": [{"name": "u", "kind": "categorical"}, {"name": "i", "kind": "categorical"}],
    }
    found, rejected = read_all(DatasetSpec.parse(document), tmp_path)
    assert found == [
        {"u": "10", "i": "20", "label": "1"},
        {"u": "11", "i": "21", "label": "-1"},
    ]
    assert [reason[:9] for reason, _ in rejected] == ["2 columns", "not 'labe"]
    document["source"]["columns"] = ["all"]
    document["fields"] = [{"name": "all", "kind": "multivalued", "separator": " "}]
    found, rejected = read_all(DatasetSpec.parse(document), tmp_path)
    assert [row["all"] for row in found] == ["10 20", "11 21", "11"]
    assert len(rejected) == 1


def test_latin1_and_long_delimiter(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes("1::7::é::2::a\n".encode("latin-1"))
    source = {"header": False, "columns": ["y", "u", "t", "n", "m"], "delimiter": "::"}
    spec = spec_for(files=["x.dat"], encoding="latin-1", **source)
    same(read_all(spec, tmp_path)[0], [{"y": "1", "u": "7", "t": "é", "n": 2.0, "m": "a"}])


def test_bad_rows_are_rejected_with_the_reason(tmp_path: Path) -> None:
    good = b"1,u,t,1,m\n"
    bad = [b"1,u,t,one,m\n", b"1,u\n", b"1,u,\xff,1,m\n", b"1,u,t,1e99,m\n"]
    (tmp_path / "x.csv").write_bytes(b"y,u,t,n,m\n" + good + b"".join(bad) + good)
    found, rejected = read_all(spec_for(files=["x.csv"]), tmp_path)
    assert len(found) == 2
    reasons = sorted(reason for reason, _ in rejected)
    assert reasons == [
        "2 columns, expected 5",
        "column 'n': not a number: '1e99'",
        "column 'n': not a number: 'one'",
        "column 't': not utf-8: invalid start byte",
    ]


@pytest.mark.parametrize("size", [64, 100, 1000, 1 << 20])
def test_blocks_cut_between_rows_whatever_their_size(tmp_path: Path, size: int) -> None:
    log = [{**LOG[i % 3], "u": str(i)} for i in range(200)]
    write_csv(tmp_path / "x.csv", log)
    spec = spec_for(files=["x.csv"], block_bytes=size)
    blocks = sources.plan(spec, tmp_path)
    assert (len(blocks) > 3) == (size < 1 << 20)
    same(read_all(spec, tmp_path)[0], expected(log))


def test_files_globs_and_folders(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    for day in (2, 1):
        write_csv(tmp_path / "days" / f"{day}.csv", [{**LOG[0], "u": str(day)}])
    (tmp_path / "days" / "_SUCCESS").write_text("")
    for pattern in ("days", "days/*.csv"):
        found, _ = read_all(spec_for(files=[pattern]), tmp_path)
        assert [row["u"] for row in found] == ["1", "2"]
    with pytest.raises(FileNotFoundError, match=r"no file matches 'nights/\*'"):
        sources.plan(spec_for(files=["nights/*"]), tmp_path)


def test_missing_column_and_empty_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("y,uu,t,n,m\n1,u,t,1,m\n")
    with pytest.raises(SourceError, match=r"x\.csv: no column 'u'; did you mean 'uu'\?"):
        sources.plan(spec_for(files=["x.csv"]), tmp_path)
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(SourceError, match=r"x\.csv: the file is empty"):
        sources.plan(spec_for(files=["x.csv"]), tmp_path)
