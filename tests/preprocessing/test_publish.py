"""Publishing: whole or not at all, never a mixture, never somebody else's folder."""

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from preprocessing import publish
from preprocessing.ahead import ahead, side_by_side
from preprocessing.publish import staging


def fill(folder: Path, text: str) -> None:
    (folder / "marker").write_text(text)
    (folder / f"only-{text}").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("swap", [True, False])
def test_a_new_result_replaces_the_old_one_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    if not swap:
        monkeypatch.setattr(publish, "_exchange", lambda *_: False)
    for text in ("a", "b"):
        with staging(tmp_path / "out", "marker") as folder:
            fill(folder, text)
    assert names(tmp_path / "out") == ["marker", "only-b"]
    assert names(tmp_path) == ["out"]


def test_a_failure_leaves_the_old_result_alone(tmp_path: Path) -> None:
    with staging(tmp_path / "out", "marker") as folder:
        fill(folder, "a")
    with pytest.raises(RuntimeError), staging(tmp_path / "out", "marker") as folder:
        fill(folder, "b")
        raise RuntimeError
    assert names(tmp_path / "out") == ["marker", "only-a"]
    assert names(tmp_path) == ["out"]


def test_a_failure_leaves_nothing_of_workers_that_go_on_writing(tmp_path: Path) -> None:
    def work(folder: Path, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            for i in range(100_000):
                (folder / f"{number}-{i}").touch()

    with pytest.raises(RuntimeError), staging(tmp_path / "out", "marker") as folder:
        workers = [threading.Thread(target=work, args=(folder, i)) for i in range(2)]
        for worker in workers:
            worker.start()
        while len(names(folder)) < 500:
            time.sleep(0.001)
        raise RuntimeError
    for worker in workers:
        worker.join()
    assert names(tmp_path) == []


def test_a_file_that_appears_behind_the_deletion_is_deleted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, delete = [], shutil.rmtree

    def late(folder: Path, ignore_errors: bool) -> None:
        delete(folder, ignore_errors)
        if not deleted:
            folder.mkdir()
            fill(folder, "late")
        deleted.append(folder)

    monkeypatch.setattr(shutil, "rmtree", late)
    with pytest.raises(RuntimeError), staging(tmp_path / "out", "marker") as folder:
        fill(folder, "a")
        raise RuntimeError
    assert len(deleted) == 2
    assert names(tmp_path) == []


def test_two_jobs_with_one_target_do_not_mix(tmp_path: Path) -> None:
    with staging(tmp_path / "out", "marker") as first:
        fill(first, "a")
        with staging(tmp_path / "out", "marker") as second:
            fill(second, "b")
        assert names(tmp_path / "out") == ["marker", "only-b"]
    assert names(tmp_path / "out") == ["marker", "only-a"]
    assert names(tmp_path) == ["out"]


def test_a_crash_between_two_renames_is_put_right(tmp_path: Path) -> None:
    lost = tmp_path / f".out.old-{socket.gethostname()}-999999999-abc"
    lost.mkdir()
    fill(lost, "a")
    with pytest.raises(RuntimeError), staging(tmp_path / "out", "marker"):
        assert names(tmp_path / "out") == ["marker", "only-a"]
        raise RuntimeError
    assert names(tmp_path) == ["out"]


def test_reading_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))

    def broken() -> object:
        yield 1
        raise ValueError("no more")

    taken = ahead(broken())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="no more"):
        next(taken)


def test_side_by_side_keeps_order_and_takes_few_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    def slow_if_even(i: int) -> int:
        time.sleep(0.01 * (i % 2 == 0))
        return 100 // (15 - i)

    found = side_by_side(slow_if_even, items())
    assert next(found) == 100 // 15
    assert len(taken) <= 4
    assert [next(found) for _ in range(14)] == [100 // (15 - i) for i in range(1, 15)]
    with pytest.raises(ZeroDivisionError):
        next(found)
