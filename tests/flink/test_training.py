"""Two workers train on what Flink has prepared, each on files of its own."""

from pathlib import Path

import pytest

from pipeline.data import FILES_A_WORKER
from preprocessing.prepared import PreparedDataset
from tests.flink.cluster import Cluster
from tests.flink.datasets import data_of, in_blocks, prepare
from tests.pipeline.test_strategy import losses, two_workers

pytestmark = pytest.mark.flink


def test_two_workers_train_on_a_dataset_made_by_flink(
    cluster: Cluster, shared_data: Path, tmp_path: Path
) -> None:
    spec = in_blocks("criteo", 1 << 16, tmp_path)
    data = data_of("criteo", shared_data, tmp_path)
    assert prepare(spec, data, tmp_path / "prepared", cluster.words).code == 0
    prepared = PreparedDataset.load(tmp_path / "prepared")
    assert len(prepared.manifest["splits"]["train"]["files"]) >= 2 * FILES_A_WORKER
    two_workers(tmp_path / "run", "--prepared", str(prepared.path))
    epochs = losses(tmp_path / "run")
    assert len(epochs) == 3
    assert epochs[-1][0] < epochs[0][0]
    assert max(auc for _, _, auc in epochs) > 0.65
