"""`prepare` on a Spark cluster of several processes gives what it gives in one process."""

from pathlib import Path

import pytest

from tests.flink.datasets import data_of, in_blocks, prepare
from tests.spark.cluster import JARS, SparkCluster
from tests.support.java_processes import jars_at

pytestmark = pytest.mark.spark
_SMALL_BLOCKS = 1 << 18


def test_same_content_as_in_one_process(shared_data: Path, tmp_path: Path) -> None:
    jars = jars_at(JARS, "spark-core_*.jar", "spark-test")
    spec = in_blocks("criteo", _SMALL_BLOCKS, tmp_path)
    data = data_of("criteo", shared_data, tmp_path)
    here = prepare(spec, data, tmp_path / "direct").result
    with SparkCluster(jars, tmp_path / "cluster") as cluster:
        there = prepare(spec, data, tmp_path / "spark", cluster.words).result
        assert cluster.executors_seen() == {"work-0", "work-1"}
    assert there["content_hash"] == here["content_hash"]
    assert there["splits"] == here["splits"]
    assert there["counters"] == here["counters"]
