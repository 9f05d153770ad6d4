"""Fetching: checked by content, the copy when the publisher is silent, a cache that stays whole."""

import dataclasses
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from preprocessing import fetch, presets
from preprocessing.errors import SourceError
from preprocessing.presets import movielens_100k

FILES = {
    "u.data": "1\t1\t5\t881250949\n",
    "u.user": "1|24|M|technician|85711\n",
    "u.item": "1|A (1995)|01-Jan-1995||u|" + "|".join("0" * 19) + "\n",
    "README": "terms",
}


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the publisher's archive, and the hash of its rows as the one expected."""
    archive, folder = tmp_path / "ml-100k.zip", tmp_path / "plain"
    folder.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in FILES.items():
            file.writestr(f"ml-100k/{name}", text)
            (folder / name).write_text(text)
    monkeypatch.setattr(fetch, "_GROUPLENS", tmp_path.as_uri())
    monkeypatch.setattr(movielens_100k, "CONTENT", movielens_100k.content_hash(folder))
    return folder


def test_fetched_once_then_taken_from_the_cache(publisher: Path, tmp_path: Path) -> None:
    said: list[str] = []
    home = fetch.fetch("movielens-100k", tmp_path / "cache", say=said.append)
    assert (home / "u.data").read_text() == FILES["u.data"]
    assert fetch.fetch("movielens-100k", tmp_path / "cache", say=said.append) == home
    assert said[-1] == f"movielens-100k is in {home}"
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["movielens-100k"]


def test_wrong_content_is_refused_and_the_copy_taken(
    publisher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "ml-100k.zip", "w") as file:
        for name, text in {**FILES, "u.data": "1\t1\t1\t0\n"}.items():
            file.writestr(f"ml-100k/{name}", text)

    def copy(*_: Any) -> Path:
        return publisher.rename(tmp_path / "copy")

    copy.__name__ = "_from_copy"
    monkeypatch.setattr(fetch, "_from_recbole", copy)
    said: list[str] = []
    home = fetch.fetch("movielens-100k", tmp_path / "cache", say=said.append)
    assert (home / "u.data").read_text() == FILES["u.data"]
    assert any("SHA-256 of the rows is" in line for line in said)


def test_no_source_is_one_line_and_leaves_nothing(
    publisher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_GROUPLENS", (tmp_path / "gone").as_uri())
    monkeypatch.setattr(fetch, "_pip", lambda: ["false"])
    with pytest.raises(SourceError, match=r"could not be fetched .* with --data$"):
        fetch.fetch("movielens-100k", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_archive_is_taken_if_its_md5_is_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "ml-1m.zip"
    wanted = fetch._ARCHIVES["movielens-1m"]
    with zipfile.ZipFile(archive, "w") as file:
        for name in (*wanted.files, "more.dat"):
            file.writestr(f"ml-1m/{name}", name)
    monkeypatch.setattr(fetch, "_GROUPLENS", tmp_path.as_uri())
    with pytest.raises(SourceError) as caught:
        fetch.fetch("movielens-1m", tmp_path / "cache")
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    assert f"ml-1m.zip: its MD5 is {digest}, not c4d9eecf" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []
    own = dataclasses.replace(wanted, md5=digest)
    monkeypatch.setitem(fetch._ARCHIVES, "movielens-1m", own)
    home = fetch.fetch("movielens-1m", tmp_path / "cache")
    assert sorted(p.name for p in home.iterdir()) == sorted(wanted.files)
    archive.unlink()
    assert fetch.fetch("movielens-1m-ids", tmp_path / "cache") == home


def test_what_can_be_fetched_are_presets_and_holds_their_files() -> None:
    assert set(fetch.fetchable()) <= set(presets.names())
    for name, archive in fetch._ARCHIVES.items():
        assert set(presets.spec(name).source.files) <= set(archive.files)


def test_unknown_name_and_the_cache_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="did you mean 'movielens-100k'"):
        fetch.fetch("movielens-10k")
    monkeypatch.setenv("CTR_DATA", "/some/where")
    assert fetch.cache_folder() == Path("/some/where")
