"""Presets on real files: row counts as published, and no skew between records and served graph."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocessing import presets
from preprocessing.finish import tensors_of
from preprocessing.job import prepare
from preprocessing.prepared import PreparedDataset
from preprocessing.presets import movielens_1m, movielens_tag, synthetic_sparse
from preprocessing.schema import DatasetSpec
from tests.flink.datasets import data_of


def assert_no_skew(prepared: PreparedDataset) -> None:
    """The served graph on the raw test rows gives what the records of the test split hold."""
    arrays, raw = prepared.arrays("test"), prepared.raw("test")
    got = prepared.transform()(tensors_of(raw.drop(["label"])))
    np.testing.assert_array_equal(got["ids"].numpy(), arrays["ids"])
    np.testing.assert_allclose(got["values"].numpy(), arrays["values"], rtol=1e-6, atol=1e-7)


def head_of(source: Path, target: Path, lines: int) -> None:
    with source.open("rb") as file:
        target.write_bytes(b"".join(itertools.islice(file, lines)))


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_a_valid_spec_with_a_description(name: str) -> None:
    spec = presets.spec(name)
    assert spec.name == name
    assert spec.description


def test_unknown_preset_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no preset 'critio'.*criteo"):
        presets.spec("critio")


def test_criteo(shared_data: Path, tmp_path: Path) -> None:
    head_of(shared_data / "criteo/criteo_head_10k.txt", tmp_path / "train.txt", 3000)
    prepared = prepare(presets.spec("criteo"), tmp_path / "out", tmp_path)
    assert sum(split["rows"] for split in prepared.manifest["splits"].values()) == 3000
    assert len(prepared.fields) == 39
    assert_no_skew(prepared)


def test_frappe_raw_samples_two_negatives(shared_data: Path, tmp_path: Path) -> None:
    head_of(shared_data / "frappe/raw/frappe.csv", tmp_path / "frappe.csv", 2001)
    prepared = prepare(presets.spec("frappe"), tmp_path / "out", tmp_path)
    splits = prepared.manifest["splits"].values()
    assert sum(split["rows"] for split in splits) == 6000
    assert sum(split["positives"] for split in splits) == 2000
    assert_no_skew(prepared)


def movielens_100k(folder: Path) -> Path:
    """An invented log in the layout of MovieLens 100K: 60 users, 25 films, 600 ratings."""
    flags = ["|".join("1" if g in (f % 19, f % 7) else "0" for g in range(19)) for f in range(25)]
    films = [f"{f}|Film {f} ({1970 + f})|||{f}|{flags[f]}" for f in range(25)]
    users = [f"{u}|{20 + u % 40}|{'MF'[u % 2]}|job{u % 9}|{u * 977 % 1000:05d}" for u in range(60)]
    rows = [f"{i % 60}\t{i * i % 25}\t{1 + i * 7 % 5}\t{881250949 + i * 5000}" for i in range(600)]
    for name, lines in (("u.item", films), ("u.user", users), ("u.data", rows)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="latin-1")
    return folder


def whole(prepared: PreparedDataset) -> None:
    """Nothing is dropped."""
    assert prepared.manifest["counters"]["rows_in"] == prepared.manifest["counters"]["rows_out"]


def interhat(prepared: PreparedDataset) -> None:
    """The first four fifths are for training."""
    assert prepared.rows("train") == 8_000
    assert len(prepared.fields) == 34


def sampled(prepared: PreparedDataset) -> None:
    """Two negatives for each positive."""
    counters = prepared.manifest["counters"]
    assert counters["rows_out"] == 3 * counters["rows_in"]


def published_split(prepared: PreparedDataset) -> None:
    """He and Chua's rows; the hash is that of the experiments' records."""
    rows = [prepared.rows(split) for split in ("train", "validation", "test")]
    assert rows == [202_027, 57_722, 28_860]
    # 5,382 values in all; 3 users occur outside the training split only, and every field has an
    # id for values it has not seen.
    assert prepared.manifest["num_features"] == 5_382 - 3 + 10
    assert prepared.manifest["content_hash"].startswith("f9804ff2549354af")


def threes_dropped(prepared: PreparedDataset) -> None:
    """A rating of 3 is neither a click nor none."""
    counters = prepared.manifest["counters"]
    assert set(counters["dropped"]) == {"label"}
    assert counters["rows_in"] == counters["rows_out"] + counters["dropped"]["label"]
    if counters["rows_in"] == 1_000_209:
        assert counters["dropped"]["label"] == 261_197


PRESETS: dict[str, tuple[int, Callable[[PreparedDataset], None]]] = {
    "avazu": (23_299, whole),
    "avazu-without-id": (23_299, whole),
    "criteo": (10_000, whole),
    "criteo-bucket": (10_000, whole),
    "criteo-interhat": (10_000, interhat),
    "frappe": (96_203, sampled),
    "frappe-libfm": (288_609, published_split),
    "movielens-100k": (600, threes_dropped),
    "movielens-1m": (100_000, threes_dropped),
    "movielens-1m-ids": (100_000, threes_dropped),
    "movielens-1m-sample": (100_000, threes_dropped),
    "movielens-1m-untimed": (1_000_209, threes_dropped),
    "movielens-tag": (95_580, sampled),
    "movielens-tag-libfm": (3 * 95_580, whole),
    "synthetic-sparse": (100_000, whole),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.names())
def test_preset_has_the_rows_it_should_and_no_skew(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name == "movielens-100k":
        folder = movielens_100k(tmp_path)
    elif name == "synthetic-sparse":
        folder = tmp_path
    else:
        folder = data_of(name, request.getfixturevalue("shared_data"), tmp_path)
    rows, check = PRESETS[name]
    prepared = prepare(presets.spec(name), tmp_path / "out", folder)
    assert prepared.manifest["counters"]["rows_in"] == rows
    check(prepared)
    assert_no_skew(prepared)


def test_movielens_1m_joins_by_hand(tmp_path: Path) -> None:
    (tmp_path / "users.dat").write_text("7::F::25::3::10001\n")
    films = "1::Métropolis (1927)::Sci-Fi|Drama\n2::Up (2009)::Animation\n"
    (tmp_path / "movies.dat").write_text(films, encoding="latin-1")
    (tmp_path / "ratings.dat").write_text("7::1::5::978300760\n7::2::3::978300761\n")
    (batch,) = movielens_1m.read(tmp_path)
    assert batch.to_pylist()[0] == {
        "user_id": "7",
        "film_id": "1",
        "rating": "5",
        "timestamp": "978300760",
        "gender": "F",
        "age": "25",
        "occupation": "3",
        "zip": "10001",
        "release_time": "1920s",
        "genres": "Sci-Fi|Drama",
    }
    assert batch.column("release_time").to_pylist() == ["1920s", "2009"]
    (tmp_path / "ratings.dat").write_text("7::1::5::1\n8::1::5::1\n")
    with pytest.raises(ValueError, match=r"ratings.dat:2: '8' is in neither users.dat nor"):
        list(movielens_1m.read(tmp_path))
    with pytest.raises(ValueError, match=r"late\.dat: no such file"):
        list(movielens_1m.read(tmp_path, "late.dat"))


def test_movielens_tag_keeps_separators_inside_a_tag(tmp_path: Path) -> None:
    (tmp_path / "tags.dat").write_text("1::2::a::b::99\n3::4::c::98\n")
    (batch,) = movielens_tag.read(tmp_path)
    assert batch.column("tag").to_pylist() == ["a::b", "c"]
    (tmp_path / "tags.dat").write_text("1::2::c\n")
    with pytest.raises(ValueError, match=r"tags\.dat:1: expected user::film::tag::time"):
        list(movielens_tag.read(tmp_path))


def test_synthetic_sparse_follows_its_polynomial() -> None:
    linear, pairs, triples = synthetic_sparse.terms()
    assert ((linear >= 1) & (linear <= 2)).all()
    assert 0 < np.count_nonzero(triples) < 30
    x, label = synthetic_sparse.records(rows=400)
    value = [
        1
        + sum(linear[j] * row[j] for j in range(10))
        + sum(pairs[j, k] * row[j] * row[k] for j, k in np.ndindex(10, 10))
        + sum(triples[j, k, m] * row[j] * row[k] * row[m] for j, k, m in np.ndindex(10, 10, 10))
        for row in x
    ]
    highest = np.argsort(value)[::-1][: label.sum()]
    assert 0 < label.mean() < 0.05
    assert (label[highest] == 1).all()
    for i, j in synthetic_sparse.planted():
        in_pair = pairs[i, j] or pairs[j, i]
        in_triple = any({i, j} <= set(index) for index in np.argwhere(triples).tolist())
        assert in_pair or in_triple


def test_the_two_functions_of_section_4_6() -> None:
    points, y = synthetic_sparse.polynomial(2000)
    x, z = points.T
    np.testing.assert_allclose(y, x**2 - 0.5 * z**2 + 2 * x * z, atol=0.06)
    points, y = synthetic_sparse.nonlinear(2000)
    x, z = points.T
    np.testing.assert_allclose(y, np.tanh(2 * np.tanh(x - 0.5 * z + 0.3)), atol=0.06)


def test_python_sources_take_the_spec_s_file_names() -> None:
    spec = presets.spec("movielens-1m-untimed")
    assert isinstance(spec, DatasetSpec)
    assert spec.source.files == ("ratings.no-timestamp.dat",)
