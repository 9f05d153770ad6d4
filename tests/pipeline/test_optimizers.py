import keras
import pytest
from rich.console import Console

from models.optimizers import SparseAdagrad, SparseAdam
from pipeline.config import OptimizerConfig
from pipeline.errors import PipelineError
from pipeline.optimizers import build_optimizer, updates_whole
from pipeline.train import Trainer
from tests.pipeline.support import MemoryPrepared, run_config


def build(num_features=1000, **config):
    return build_optimizer(OptimizerConfig(**config), num_features, 39, 512)


def test_size_decides_how_tables_are_updated():
    assert updates_whole(build(1000, name="adagrad"))
    big = build(10_000_000, name="adagrad")
    assert isinstance(big, SparseAdagrad)
    assert not updates_whole(big)
    assert updates_whole(build(10_000_000, name="adagrad", tables="dense"))


def test_arguments_reach_the_class():
    optimizer = build(name="adam", beta_1=0.5, global_clipnorm=3.0, exact=True, tables="sparse")
    assert isinstance(optimizer, SparseAdam)
    assert (optimizer.beta_1, optimizer.global_clipnorm, optimizer.exact) == (0.5, 3.0, True)
    assert isinstance(build(name="adamw"), keras.optimizers.AdamW)


def test_by_row_is_refused_where_there_is_none():
    with pytest.raises(PipelineError, match="no update by row; those that have: adam"):
        build(name="lion", tables="sparse")


@pytest.mark.parametrize("arguments", [{"exact": True}, {"table_l2": 1e-4}, {}])
def test_trains_by_row(tmp_path, arguments):
    config = run_config(
        tmp_path / "r",
        optimizer={"tables": "sparse", "learning_rate": 0.05, **arguments},
        training={"jit_compile": "auto"},
    )
    result = Trainer(config, MemoryPrepared(), Console(quiet=True)).train()
    assert result.metrics["validation"]["auc"] > 0.7


def test_adagrad_by_row_and_whole_give_the_same_metrics(tmp_path):
    results = []
    for tables in ("sparse", "dense"):
        config = run_config(tmp_path / tables, optimizer={"name": "adagrad", "tables": tables})
        result = Trainer(config, MemoryPrepared(), Console(quiet=True)).train()
        results.append(result.history[-1])
    assert results[0]["val_logloss"] == pytest.approx(results[1]["val_logloss"], abs=1e-5)
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], abs=1e-5)


def test_mixed_precision_trains_in_bfloat16(tmp_path):
    config = run_config(tmp_path / "r", training={"mixed_precision": True, "epochs": 4})
    result = Trainer(config, MemoryPrepared(), Console(quiet=True)).train()
    assert result.model.compute_dtype == "bfloat16"
    assert result.metrics["validation"]["auc"] > 0.7
