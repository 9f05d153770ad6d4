"""Three logs nobody prepared for, each taken from its spec to scores of its own raw file."""

import csv
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main

ROWS = 400


def quoted_csv(folder: Path) -> tuple[str, dict]:
    """A header with a space, commas and quotes inside values."""
    draw = random.Random(1)
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["clicked", "ad title", "city"])
        for _ in range(ROWS):
            title = draw.choice(["Shoes, red", 'The "best" hat', "plain"])
            rows.writerow([int(draw.random() < 0.4), title, draw.choice(["Paris, TX", "Köln"])])
    return "log.csv", {
        "source": {"format": "csv", "files": ["log.csv"]},
        "fields": [
            {"name": "title", "kind": "categorical", "column": "ad title"},
            {"name": "city", "kind": "categorical"},
        ],
    }


def windows_tsv(folder: Path) -> tuple[str, dict]:
    """CRLF line ends, empty cells, a number that is missing."""
    draw = random.Random(2)
    lines = ["clicked\tuser\tprice\ttags"]
    for _ in range(ROWS):
        user = draw.choice(["", "a", "b", "c"])
        price = draw.choice(["", f"{draw.uniform(0, 50):.2f}"])
        lines.append(
            f"{int(draw.random() < 0.4)}\t{user}\t{price}\t{draw.choice(['', 'x', 'x|y'])}"
        )
    (folder / "log.tsv").write_bytes("\r\n".join([*lines, ""]).encode())
    return "log.tsv", {
        "source": {"format": "tsv", "files": ["log.tsv"]},
        "fields": [
            {"name": "user", "kind": "categorical"},
            {"name": "price", "kind": "numeric", "transform": "z_score"},
            {"name": "tags", "kind": "multivalued", "max_values": 2},
        ],
    }


def integer_parquet(folder: Path) -> tuple[str, dict]:
    """Integer ids beyond float32's and null ids and numbers."""
    draw = random.Random(3)
    table = pa.table(
        {
            "clicked": pa.array([int(draw.random() < 0.4) for _ in range(ROWS)], pa.int8()),
            "user": pa.array([draw.choice([None, 7, 2**62 + 1]) for _ in range(ROWS)], pa.int64()),
            "age": pa.array([draw.choice([None, 20, 30, 41]) for _ in range(ROWS)], pa.int32()),
        }
    )
    pq.write_table(table, folder / "log.parquet")
    return "log.parquet", {
        "source": {"format": "parquet", "files": ["log.parquet"]},
        "fields": [
            {"name": "user", "kind": "categorical"},
            {"name": "age", "kind": "numeric", "transform": "min_max"},
        ],
    }


@pytest.mark.parametrize("make", [quoted_csv, windows_tsv, integer_parquet])
def test_from_spec_to_score(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log, spec = make(tmp_path)
    document = {"name": "odd", "label": {"column": "clicked"}, **spec}
    Path("odd.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    run = {
        "name": "odd",
        "data": {"spec": "odd.yaml", "prepared": "prepared"},
        "model": {"name": "fm", "embedding_dim": 4},
        "training": {"epochs": 1, "batch_size": 64, "tensorboard": False},
        "export": {"repository": "repository"},
    }
    Path("run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    assert main(["run", "run.yaml"]) == 0
    score = ["score", log, "--output", "scores.csv", "--saved-model", "repository/odd/1"]
    assert main(score) == 0
    scores = pyarrow.csv.read_csv("scores.csv").column("probability").to_pylist()
    assert len(scores) == ROWS
    assert all(0 < probability < 1 for probability in scores)
    assert len(set(scores)) > 3, "rows that differ must not all score alike"
