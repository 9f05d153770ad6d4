"""A small log of our own making and its prepared dataset, shared by this room's tests."""

import random
from pathlib import Path

import pytest

from preprocessing.job import prepare
from preprocessing.prepared import PreparedDataset
from preprocessing.schema import DatasetSpec

FIELDS = [
    {"name": "user", "kind": "categorical"},
    {"name": "title", "column": "ad title", "kind": "categorical", "min_count": 3},
    {"name": "brand", "kind": "categorical", "prefix": 2, "missing": ["n/a"], "top_k": 4},
    {"name": "price", "kind": "numeric", "transform": "z_score"},
    {"name": "visits", "kind": "numeric", "transform": "log_squared", "as_category": True},
    {"name": "depth", "kind": "numeric", "transform": "log1p", "clip": [-3, 50]},
    {"name": "age", "kind": "numeric", "transform": "quantiles", "buckets": 4},
    {"name": "score", "kind": "numeric", "transform": "min_max", "missing": "zero"},
    {"name": "genres", "kind": "multivalued", "max_values": 2, "missing": ["-"]},
    {"name": "tags", "kind": "multivalued", "separator": " ", "hash_buckets": 20},
    {"name": "hour", "kind": "time", "column": "ts", "part": "hour", "utc_offset_hours": 1.5},
    {"name": "date", "kind": "time", "column": "day", "part": "weekday", "format": "iso"},
    {"name": "user_hour", "kind": "cross", "of": ["user", "hour"], "hash_buckets": 100},
    {"name": "brand_date", "kind": "cross", "of": ["brand", "date"], "min_count": 2},
]


def rows(count: int, seed: int = 1) -> list[dict[str, str]]:
    """A click log with missing values, quoted commas, umlauts and several values in a cell."""
    draw = random.Random(seed)

    def sometimes(value: str) -> str:
        return value if draw.random() < 0.9 else ""

    return [
        {
            "clicked": str(int(draw.random() < 0.3)),
            "user": f"u{draw.randint(0, count // 8)}",
            "ad title": sometimes(f'Sale, "{draw.randint(0, 9)}" für alle'),
            "brand": sometimes(draw.choice(["Ärger", "n/a", "Bolt", "Böse", "Cog", "Dim", "Eau"])),
            "price": sometimes(f"{draw.uniform(0, 99):.2f}"),
            "visits": sometimes(str(draw.choice([-1, 0, 1, 2, 3, 7, 55, 4000]))),
            "depth": sometimes(str(draw.randint(-9, 99))),
            "age": sometimes(str(draw.randint(1, 90))),
            "score": sometimes(f"{draw.gauss(0, 1):.4f}"),
            "genres": "|".join(draw.choice(["a", "b", "-", "c", ""]) for _ in range(3)),
            "tags": " ".join(draw.sample(["x", "y", "z", "ü"], draw.randint(0, 4))),
            "ts": sometimes(draw.choice([str(880000000 + 1000 * i), f"{880000000 + i}.5", "noon"])),
            "day": sometimes(f"2024-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"),
        }
        for i in range(count)
    ]


def write_csv(path: Path, log: list[dict[str, str]], delimiter: str = ",", end: str = "\n") -> Path:
    """Writes rows as CSV with every value quoted that needs it."""

    def cell(value: str) -> str:
        if any(c in value for c in (delimiter, '"', "\n")):
            return '"' + value.replace('"', '""') + '"'
        return value

    lines = [delimiter.join(map(cell, log[0]))]
    lines += [delimiter.join(map(cell, row.values())) for row in log]
    path.write_bytes((end.join(lines) + end).encode())
    return path


def spec_of(**changes: object) -> DatasetSpec:
    """The test log's spec with some keys replaced."""
    document = {
        "name": "tiny",
        "source": {"format": "csv", "files": ["clicks.csv"]},
        "label": {"column": "clicked"},
        "fields": FIELDS,
        "keep_raw": ["train", "validation", "test"],
    }
    return DatasetSpec.parse({**document, **changes})


@pytest.fixture(scope="session")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clicks.csv, 1,500 rows."""
    folder = tmp_path_factory.mktemp("log")
    write_csv(folder / "clicks.csv", rows(1500))
    return folder


@pytest.fixture(scope="session")
def prepared(log_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The test log, prepared with one field of every kind."""
    return prepare(spec_of(), tmp_path_factory.mktemp("prepared") / "tiny", log_folder)
