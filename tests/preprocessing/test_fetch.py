"""Fetching: checked by content, the copy when the publisher is silent, a cache that stays whole."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from preprocessing import fetch
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
    archive, folder = tmp_path / "ml.zip", tmp_path / "plain"
    folder.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in FILES.items():
            file.writestr(f"ml-100k/{name}", text)
            (folder / name).write_text(text)
    monkeypatch.setattr(fetch, "_GROUPLENS", archive.as_uri())
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
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as file:
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
    monkeypatch.setattr(fetch, "_GROUPLENS", (tmp_path / "gone.zip").as_uri())
    monkeypatch.setattr(fetch, "_pip", lambda: ["false"])
    with pytest.raises(SourceError, match=r"could not be fetched .* with --data$"):
        fetch.fetch("movielens-100k", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_unknown_name_and_the_cache_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="did you mean 'movielens-100k'"):
        fetch.fetch("movielens-10k")
    monkeypatch.setenv("CTR_DATA", "/some/where")
    assert fetch.cache_folder() == Path("/some/where")
