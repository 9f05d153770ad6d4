"""One small log taken the whole way, shared by the tests of the commands."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.cli import main

SPEC = {
    "name": "clicks",
    "source": {"format": "csv", "files": ["clicks.csv"]},
    "label": {"column": "clicked"},
    "group": "user",
    "fields": [
        {"name": "user", "kind": "categorical"},
        {"name": "item", "kind": "categorical"},
        {"name": "tags", "kind": "multivalued", "separator": "|", "max_values": 3},
        {"name": "price", "kind": "numeric", "transform": "log1p"},
    ],
    "split": {"kind": "ratio", "seed": 7},
}
RUN = {
    "name": "clicks-fm",
    "data": {"spec": "clicks.yaml", "prepared": "prepared"},
    "model": {"name": "fm", "embedding_dim": 4},
    "optimizer": {"learning_rate": 0.05},
    "training": {"epochs": 6, "batch_size": 256},
    "calibration": {"method": "platt"},
    "export": {"repository": "repository"},
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A working directory with a trained and exported run."""

    folder: Path
    run: Path
    version: Path


def write_log(path: Path, rows: int = 2000) -> None:
    """A CSV with quoted commas, missing cells and a user x item taste."""
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(40, 2)), rng.normal(size=(30, 2))
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["clicked", "user", "item", "tags", "price"])
        for _ in range(rows):
            u, i = rng.integers(40), rng.integers(30)
            logit = 2.0 * (user[u] * item[i]).sum() - 0.3
            tags = "|".join(rng.choice(["red", "grün", "blue"], rng.integers(0, 3), replace=False))
            price = "" if rng.random() < 0.1 else f"{rng.gamma(2.0, 10.0):.2f}"
            click = int(rng.random() < 1 / (1 + np.exp(-logit)))
            writer.writerow([click, f"u{u}", f"item, {i}", tags, price])


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    write_log(folder / "clicks.csv")
    (folder / "clicks.yaml").write_text(yaml.safe_dump(SPEC))
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["prepare", "clicks.yaml", "--output", "prepared"]) == 0
        assert main(["train", "run.yaml", "--json"]) == 0
        assert main(["export", "runs/clicks-fm"]) == 0
    finally:
        os.chdir(before)
    version = folder / "repository" / "clicks-fm" / "1"
    return Published(folder, folder / "runs" / "clicks-fm", version)


@pytest.fixture
def inside(published, monkeypatch) -> Published:
    """The same, as working directory."""
    monkeypatch.chdir(published.folder)
    return published


@pytest.fixture(scope="session")
def many_files(tmp_path_factory):
    """A prepared dataset of some 40 files a split, in which every row has an id of its own."""
    from preprocessing.job import prepare
    from preprocessing.schema import DatasetSpec

    folder = tmp_path_factory.mktemp("many-files")
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 12, 2400), rng.integers(0, 9, 2400)
    taste = 3.0 * rng.normal(size=(12, 9))
    clicked = rng.random(2400) < 1 / (1 + np.exp(-taste[users, items]))
    rows = zip(clicked.astype(int), range(2400), users, items, strict=True)
    log = "clicked,row,user,item\n" + "".join(f"{c},r{r:04d},{u},{i}\n" for c, r, u, i in rows)
    (folder / "log.csv").write_text(log)
    spec = {
        "name": "many-files",
        "source": {"format": "csv", "files": ["log.csv"], "block_bytes": 900},
        "label": {"column": "clicked"},
        "fields": [{"name": name, "kind": "categorical"} for name in ("row", "user", "item")],
        "split": {"kind": "ratio", "seed": 7},
    }
    return prepare(DatasetSpec.parse(spec), folder / "prepared", folder)
