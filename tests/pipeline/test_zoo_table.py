"""The table of all models: records, resuming, rendering, and what the committed records show."""

import pytest

import models
from pipeline.errors import PipelineError
from pipeline.experiments import zoo_table
from tests.pipeline.support import MemoryPrepared


def record(name, auc, **changed):
    test = {"auc": auc, "logloss": 0.21, "rmse": 0.25}
    return {
        "model": name,
        "test": test,
        "epochs": 5,
        "best_epoch": 3,
        "seconds_per_epoch": 1.25,
        "parameters": 12_345,
        **changed,
    }


@pytest.fixture
def small_setting(tmp_path, monkeypatch):
    """One epoch on a small dataset in memory, with records of its own."""
    config = tmp_path / "zoo.yaml"
    text = zoo_table.CONFIG.read_text(encoding="utf-8")
    config.write_text(text.replace("epochs: 15", "epochs: 1"), encoding="utf-8")
    monkeypatch.setattr(zoo_table, "CONFIG", config)
    monkeypatch.setattr(zoo_table, "RECORDS", tmp_path / "results" / "zoo.jsonl")
    monkeypatch.setattr("pipeline.rundir.load_prepared", lambda path: MemoryPrepared())
    return tmp_path


def test_trains_what_has_no_record_and_only_that(small_setting):
    def trained(names):
        found = zoo_table.train_missing(names, small_setting, small_setting / "runs")
        return [record["model"] for record in found]

    assert trained(["lr"]) == ["lr"]
    assert trained(["lr", "fm"]) == ["fm"]
    records = zoo_table.read_records(zoo_table.RECORDS)
    assert list(records) == ["fm", "lr"]
    assert records["lr"]["parameters"] == 78 + 1
    assert records["fm"]["parameters"] == 78 * 17 + 1
    assert records["fm"]["epochs"] == 1
    assert 0 < records["fm"]["test"]["auc"] < 1
    # Another setting makes the records out of date.
    text = zoo_table.CONFIG.read_text(encoding="utf-8")
    zoo_table.CONFIG.write_text(text.replace("0.01}", "0.003}"), encoding="utf-8")
    assert zoo_table.fingerprint("lr", records["lr"]["data"]) != records["lr"]["fingerprint"]


def test_best_auc_comes_first():
    records = {"lr": record("lr", 0.91), "fm": record("fm", 0.95678)}
    lines = zoo_table.render(records, lambda name: {"lr": "1", "fm": "2"}[name]).splitlines()
    assert lines[2] == "| fm | 2 | 0.9568 | 0.2100 | 0.2500 | 3 of 5 | 1.2 | 12,345 |"
    assert [line.split(" | ")[0] for line in lines[3:]] == ["| lr"]


def test_only_the_marked_section_is_replaced(tmp_path):
    readme = tmp_path / "README.md"
    begin, end = zoo_table.MARKS
    readme.write_text(f"top\n{begin}\nold\n{end}\nbottom\n", encoding="utf-8")
    zoo_table.write_table(readme, {"lr": record("lr", 0.91)})
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"top\n{begin}\n")
    assert text.endswith(f"{end}\nbottom\n")
    assert "| lr | 1 | 0.9100 |" in text
    assert "old" not in text
    readme.write_text("no marks", encoding="utf-8")
    with pytest.raises(PipelineError, match="expected the marks"):
        zoo_table.write_table(readme, {})


def test_names_with_a_plus_make_a_valid_run_name(tmp_path):
    config = zoo_table.model_config("afn+", tmp_path, tmp_path / "run")
    assert config.name == "zoo-afn-plus"
    assert config.model.name == "afn+"
    assert config.model.arguments == {"embedding_dim": 16}
    assert zoo_table.model_config("lr", tmp_path, tmp_path / "run").model.arguments == {}


def test_the_readme_shows_the_committed_records():
    records = zoo_table.read_records(zoo_table.RECORDS)
    table = zoo_table.render(records, lambda name: models.entry(name).order)
    assert table in zoo_table.README.read_text(encoding="utf-8")


def test_every_recorded_model_beats_logistic_regression_clearly():
    records = zoo_table.read_records(zoo_table.RECORDS)
    assert set(records) == set(models.names())
    floor = records.pop("lr")["test"]
    for name, found in records.items():
        assert found["test"]["auc"] > floor["auc"] + 0.01, name
        assert found["test"]["logloss"] < floor["logloss"], name
