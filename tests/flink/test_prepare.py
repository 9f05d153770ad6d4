"""`prepare` on a Flink cluster of several processes gives what it gives in one process."""

from pathlib import Path

import pytest

from tests.flink.cluster import Cluster
from tests.flink.datasets import data_of, in_blocks, prepare

pytestmark = pytest.mark.flink
_SMALL_BLOCKS = 1 << 18


@pytest.mark.parametrize("preset", ["criteo", "frappe"])
def test_same_content_as_in_one_process(
    preset: str, cluster: Cluster, shared_data: Path, tmp_path: Path
) -> None:
    spec = in_blocks(preset, _SMALL_BLOCKS, tmp_path)
    data = data_of(preset, shared_data, tmp_path)
    there = prepare(spec, data, tmp_path / "flink", cluster.words).result
    here = prepare(spec, data, tmp_path / "direct").result
    assert there["content_hash"] == here["content_hash"]
    assert there["splits"] == here["splits"]
    assert there["counters"] == here["counters"]
    assert set(cluster.workers_seen()) == {"taskmanager-0", "taskmanager-1"}
