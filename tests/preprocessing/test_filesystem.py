"""Data elsewhere than on a local disk: sources, job, publishing and reading by FileSystems."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from preprocessing import filesystem
from preprocessing.filesystem import matching, path_of, read_table, write_table, writing
from preprocessing.infer import infer
from preprocessing.job import append, prepare
from preprocessing.prepared import PreparedDataset
from preprocessing.schema import DatasetSpec
from tests.preprocessing.conftest import FIELDS, rows, write_csv
from tests.preprocessing.conftest import spec_of as full_spec
from tests.support import memory_files


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty object store, and a cache of our own."""
    monkeypatch.setenv("CTR_DATA", str(tmp_path / "cache"))
    memory_files.OBJECTS.clear()
    memory_files.CALLS.clear()
    return memory_files.OBJECTS


def spec_of(**changes):
    """Three fields: TFT's time goes by the number of fields, and these tests are about files."""
    return full_spec(fields=[FIELDS[0], FIELDS[1], FIELDS[3]], **changes)


def put(url: str, data: bytes = b"x") -> None:
    memory_files.OBJECTS[url] = data


def test_paths_behave_like_pathlib():
    path = path_of("mem://bucket/a/b.txt")
    assert (
        path == path_of("mem://bucket/a") / "b.txt" == path_of("mem://bucket/a/c").parent / "b.txt"
    )
    assert (path.name, path.suffix, str(path.parent)) == ("b.txt", ".txt", "mem://bucket/a")
    assert str(path.with_suffix(".gz")) == "mem://bucket/a/b.gz"
    assert path.relative_to(path_of("mem://bucket")).as_posix() == "a/b.txt"
    assert not path.is_relative_to(path_of("mem://buck"))
    assert str(path_of("mem://bucket") / "a/../b") == "mem://bucket/b"
    assert path_of("plain/file") == Path("plain/file")
    with pytest.raises(ValueError, match="expected a path relative to mem://bucket/a"):
        path.parent / "/etc"


def test_files_and_folders_of_a_store_without_folders():
    put("mem://b/day/one.csv", b"12345")
    put("mem://b/day/more/two.csv")
    folder = path_of("mem://b/day")
    assert folder.is_dir() and folder.exists() and not folder.is_file()
    assert not path_of("mem://b/da").exists()
    one = folder / "one.csv"
    assert one.is_file() and not one.is_dir() and one.stat().st_size == 5
    assert [p.name for p in folder.glob("*.csv")] == ["one.csv"]
    assert [p.name for p in folder.rglob("*.csv")] == ["two.csv", "one.csv"]
    filesystem.remove(folder)
    assert not folder.exists()
    with pytest.raises(FileNotFoundError, match=r"mem://b/day/one\.csv"):
        one.read_bytes()


def test_patterns_mean_the_same_in_a_folder_and_in_a_store(tmp_path):
    names = ["b.csv", "a/x.csv", "a-b/x.csv", ".hidden.csv", "a/_part.csv", "c.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        put(f"mem://b/root/{name}")
    remote = path_of("mem://b/root")
    for pattern in ("b.csv", "*.csv", "a", "a/*.csv", "**/*.csv", "?.txt", "[bc].*", "none*"):
        local = [p.relative_to(tmp_path).as_posix() for p in matching(tmp_path, pattern)]
        there = [p.relative_to(remote).as_posix() for p in matching(remote, pattern)]
        assert local == there, pattern
    elsewhere = matching(tmp_path, "mem://b/root/a/x*")
    assert [str(p) for p in elsewhere] == ["mem://b/root/a/x.csv"]


@pytest.mark.parametrize("folder", ["local", "mem://b"])
def test_a_failed_writer_leaves_nothing(folder, tmp_path):
    path = path_of(str(tmp_path / folder) if folder == "local" else folder) / "file"
    path.parent.mkdir()
    filesystem.write_text(path, "before")
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert [p.name for p in path.parent.glob("*")] == ["file"]
    table = pa.table({"a": [1, 2]})
    write_table(table, path)
    assert read_table(path) == table


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://b/x", "nope://b/x: no file system for nope://, only for"),
        ("s3://b/x", r's3://b/x: s3:// needs: pip install "apache-beam\[aws\]"'),
    ],
)
def test_unknown_and_uninstalled_schemes(url, message, monkeypatch):
    monkeypatch.setattr("preprocessing.remote_path._installed", lambda module: False)
    with pytest.raises(ValueError, match=message):
        path_of(url)


def upload(folder: Path) -> None:
    for path in folder.rglob("*.csv"):
        put(f"mem://logs/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_prepare_from_and_to_a_store_equals_the_local_one(log_folder, store):
    upload(log_folder)
    spec = spec_of(source={"format": "csv", "files": ["*.csv"]})
    prepare(spec, "mem://out/tiny", "mem://logs")
    found = PreparedDataset.load("mem://out/tiny")
    local = prepare(spec, filesystem.cache_folder() / "twin", log_folder)
    assert found.manifest == local.manifest
    for split in ("train", "test"):
        ours, theirs = found.arrays(split), local.arrays(split)
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
        assert found.raw(split) == local.raw(split)
    assert found.tokens() == local.tokens()
    assert found.vocabulary() == local.vocabulary()
    assert found.transform()(_row(local))["ids"].shape == (1, local.manifest["num_positions"])
    assert not any("_work" in name or name.endswith(".part") for name in store)


def _row(dataset: PreparedDataset) -> dict[str, np.ndarray]:
    row = dataset.raw("test").slice(0, 1).to_pydict()
    return {
        c["name"]: np.array(
            [row[c["name"]][0] if c["dtype"] == "string" else row[c["name"]][0] or np.nan],
            object if c["dtype"] == "string" else np.float32,
        )
        for c in dataset.manifest["columns"]
    }


def test_a_store_shows_the_earlier_version_until_the_manifest_is_written(log_folder, store):
    upload(log_folder)
    prepare(spec_of(), "mem://out/tiny", "mem://logs")
    before = dict(store)
    first = PreparedDataset.load("mem://out/tiny")
    memory_files.CALLS.clear()
    prepare(spec_of(min_count=2), "mem://out/tiny", "mem://logs")
    second = PreparedDataset.load("mem://out/tiny")
    assert second.manifest["content_hash"] != first.manifest["content_hash"]
    # One write makes it visible: all files of the version before it, no file of the old one gone.
    at = memory_files.CALLS.index(("create", "mem://out/tiny/manifest.json"))
    old = {name for name in before if name.startswith(str(first.path))}
    assert old and not any(name in old for _, name in memory_files.CALLS[:at])
    assert all(kind == "delete" and name in old for kind, name in memory_files.CALLS[at + 1 :])
    assert not any(name in store for name in old)


def test_a_failed_job_leaves_the_store_as_it_was(log_folder, store):
    upload(log_folder)
    prepare(spec_of(), "mem://out/tiny", "mem://logs")
    put("mem://logs/clicks.csv", b"clicked\n1\n")
    before = dict(store)
    with pytest.raises(ValueError, match=r"mem://logs/clicks\.csv: no column"):
        prepare(spec_of(), "mem://out/tiny", "mem://logs")
    assert store == before
    put("mem://other/notes.txt")
    with pytest.raises(FileExistsError, match="mem://other exists and is not a prepared dataset"):
        prepare(spec_of(), "mem://other", "mem://logs")
    with pytest.raises(FileNotFoundError, match="no data folder mem://nowhere"):
        prepare(spec_of(), "mem://out/tiny", "mem://nowhere")


def test_what_a_killed_job_left_is_no_dataset_and_no_obstacle(log_folder, store):
    upload(log_folder)
    put("mem://out/tiny/version-0123/train-00000.tfrecord.gz")
    with pytest.raises(FileNotFoundError, match="no prepared dataset here"):
        PreparedDataset.load("mem://out/tiny")
    prepare(spec_of(), "mem://out/tiny", "mem://logs")
    pointer = json.loads(store["mem://out/tiny/manifest.json"])["files_in"]
    assert pointer != "version-0123"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_first_spec_of_a_log_in_a_store(form, tmp_path):
    table = pa.table({"clicked": [0, 1] * 50, "shop": ["a", "b", "c", "d", "e"] * 20})
    log = tmp_path / f"log.{form}"
    (pa_csv.write_csv if form == "csv" else pq.write_table)(table, log)
    put(f"mem://b/{log.name}", log.read_bytes())
    there, here = infer(f"mem://b/{log.name}", tmp_path), infer(log, tmp_path)
    assert there == here.replace(f"[{log.name}]", f"['mem://b/{log.name}']")
    assert DatasetSpec.parse(yaml.safe_load(there)).source.files == (f"mem://b/{log.name}",)


def test_append_in_a_store(log_folder, tmp_path, store):
    upload(log_folder)
    first = spec_of(split={"kind": "hash", "key": ["user"]})
    prepare(first, "mem://out/tiny", "mem://logs")
    put("mem://logs/day2.csv", write_csv(tmp_path / "day2.csv", rows(300, seed=2)).read_bytes())
    grown = append(["day2.csv"], "mem://out/tiny", "mem://logs")
    whole = spec_of(
        split={"kind": "hash", "key": ["user"]},
        source={"format": "csv", "files": ["clicks.csv", "day2.csv"]},
    )
    again = prepare(whole, "mem://out/whole", "mem://logs")
    assert grown.manifest["content_hash"] == again.manifest["content_hash"]
