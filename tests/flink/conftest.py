"""A Flink cluster for the tests of this folder; they skip where Java or the jars are missing."""

from collections.abc import Iterator

import pytest

from tests.flink.cluster import JARS, Cluster
from tests.support.java_processes import jars_at


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One JobManager and two TaskManagers of one slot each."""
    jars = jars_at(JARS, "flink-runtime-*.jar", "flink-test")
    with Cluster(jars, tmp_path_factory.mktemp("flink")) as running:
        yield running
