"""A Flink cluster for the tests of this folder; they skip where Java or the jars are missing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flink.cluster import JARS, Cluster


@pytest.fixture(scope="session")
def jars() -> Path:
    """The folder of Flink's and Beam's jars."""
    if "JAVA_HOME" not in os.environ and not shutil.which("java"):
        pytest.skip("no java on PATH and no JAVA_HOME: Flink needs Java 11 or 17")
    folder = os.environ.get(JARS)
    if not folder or not any(Path(folder).glob("flink-runtime-*.jar")):
        pytest.skip(f"{JARS}: no folder with Flink's jars; `make flink-test` fetches them")
    return Path(folder).absolute()


@pytest.fixture(scope="module")
def cluster(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One JobManager and two TaskManagers of one slot each."""
    with Cluster(jars, tmp_path_factory.mktemp("flink")) as running:
        yield running
