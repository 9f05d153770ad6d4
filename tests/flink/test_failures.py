"""A TaskManager or the job server killed in the middle of a job."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flink.cluster import Cluster
from tests.flink.datasets import Prepare, data_of, in_blocks, prepare

pytestmark = pytest.mark.flink
_COPIES = 20
_BLOCK_BYTES = 1 << 18


@pytest.fixture(scope="module")
def log(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Spec and folder of 200,000 Criteo rows in some 180 blocks: enough for a kill in between."""
    folder = tmp_path_factory.mktemp("log")
    (rows,) = data_of("criteo", shared_data, folder).iterdir()
    (folder / "train.txt").write_bytes(rows.read_bytes() * _COPIES)
    return in_blocks("criteo", _BLOCK_BYTES, folder), folder


@pytest.fixture(scope="module")
def expected(log: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of an undisturbed run in one process."""
    done = prepare(*log, tmp_path_factory.mktemp("direct") / "out")
    return done.result["content_hash"]


def wait(true: Callable[[], object], job: Prepare, seconds: float = 200) -> None:
    """Until something holds, while the command runs."""
    end = time.monotonic() + seconds
    while not true():
        assert job.process.poll() is None, job.end().errors[-3000:]
        assert time.monotonic() < end
        time.sleep(0.02)


def reports(folder: Path, stage: str) -> int:
    """Blocks that a stage of a running job in this folder has done."""
    return sum(1 for _ in folder.glob(f".*/_work/{stage}-*.json"))


def left(group: int) -> bool:
    """Whether any process of a group lives."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_job_survives_the_kill_of_a_task_manager(
    cluster: Cluster, log: tuple[Path, Path], expected: str, tmp_path: Path
) -> None:
    job = Prepare(*log, tmp_path / "out", cluster.words)
    for number, stage in ((0, "count"), (1, "write")):
        wait(lambda stage=stage: reports(tmp_path, stage) >= 5, job)
        group = cluster.kill(f"taskmanager-{number}")
        assert reports(tmp_path, stage) < 150
        cluster.start_task_manager(number)
        wait(lambda group=group: not left(group), job)
    assert job.end().result["content_hash"] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    restarts = [line for line in cluster.log("jobmanager") if "to RESTARTING" in line]
    assert len(restarts) >= 2


def last_line(cluster: Cluster, lost: str, log: tuple[Path, Path], folder: Path) -> str:
    """What the command ends with when a process is lost while it counts. Nothing is published."""
    job = Prepare(*log, folder / "out", cluster.words)
    wait(lambda: reports(folder, "count") >= 5, job)
    cluster.kill(lost)
    done = job.end()
    assert done.code == 2
    assert list(folder.iterdir()) == []
    return done.errors.splitlines()[-1]


def test_a_task_manager_lost_for_good_is_one_line_and_publishes_nothing(
    cluster: Cluster, log: tuple[Path, Path], tmp_path: Path
) -> None:
    line = last_line(cluster, "taskmanager-0", log, tmp_path)
    cluster.start_task_manager(0)
    cluster.wait_for_slots(2)
    assert re.match(r"error: Pipeline .* failed in state FAILED: ", line)


def test_a_job_server_that_dies_is_one_line_and_publishes_nothing(
    cluster: Cluster, log: tuple[Path, Path], tmp_path: Path
) -> None:
    line = last_line(cluster, "jobserver", log, tmp_path)
    assert line.startswith("error: the job server is gone: UNAVAILABLE")
