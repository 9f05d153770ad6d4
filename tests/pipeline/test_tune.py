import csv

import optuna
import pytest
from rich.console import Console

from pipeline.cli import main
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.tune import Search, load_space
from tests.pipeline.support import MemoryPrepared, run_config

SPACE = """
metric: logloss
trials: 4
pruning: {startup_trials: 1, warmup_epochs: 0}
space:
  optimizer.learning_rate: {low: 0.00001, high: 0.1, log: true}
  model.embedding_dim: [2, 4]
"""


def search(tmp_path, text=SPACE, trials=None, **sections):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    space = load_space(path)
    if trials:
        space = space.model_copy(update={"trials": trials})
    config = run_config(tmp_path / "base", training={"steps_per_execution": 2}, **sections)
    return Search(config, space, tmp_path / "s", Console(quiet=True))


def test_search_prunes_resumes_and_leaves_table_plot_and_best(tmp_path):
    prepared = MemoryPrepared()
    search(tmp_path, trials=2).run(prepared)
    best = search(tmp_path).run(prepared)  # a new process's view: the storage alone
    with (tmp_path / "s" / "trials.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["trial"] for row in rows] == ["1", "2", "3", "4"]
    rates = {row["optimizer.learning_rate"] for row in rows}
    assert len(rates) == 4, "a search that goes on must not try again what it has tried"
    complete = [float(row["logloss"]) for row in rows if row["state"] == "complete"]
    assert best["value"] == min(complete)
    assert (tmp_path / "s" / "search.png").read_bytes().startswith(b"\x89PNG")
    config = load_config(tmp_path / "s" / "best.yaml")
    assert config.optimizer.learning_rate == best["parameters"]["optimizer.learning_rate"]
    assert config.model.arguments["embedding_dim"] == best["parameters"]["model.embedding_dim"]


def test_a_hopeless_trial_is_pruned(tmp_path):
    searching = search(tmp_path, trials=1)
    searching.study.enqueue_trial({"optimizer.learning_rate": 0.1, "model.embedding_dim": 4})
    searching.run(MemoryPrepared())
    searching.study.enqueue_trial({"optimizer.learning_rate": 1e-5, "model.embedding_dim": 2})
    assert searching.study.best_value < 0.6
    searching.space = searching.space.model_copy(update={"trials": 2})
    searching.run(MemoryPrepared())
    last = searching.study.trials[-1]
    assert last.state == optuna.trial.TrialState.PRUNED
    assert len(last.intermediate_values) == 1


def test_a_trial_that_diverges_does_not_end_the_search(tmp_path):
    space = "trials: 2\nspace: {optimizer.learning_rate: {low: 1.0e+30, high: 1.0e+35, log: true}}"
    searching = search(tmp_path, space, optimizer={"name": "sgd"})
    with pytest.raises(PipelineError, match="every trial was pruned or diverged"):
        searching.run(MemoryPrepared())
    assert [trial.state.name for trial in searching.study.trials] == ["PRUNED", "PRUNED"]


def test_a_search_by_another_metric_wants_another_folder(tmp_path):
    search(tmp_path)
    with pytest.raises(PipelineError, match="a search by logloss is there, not by auc"):
        search(tmp_path, SPACE.replace("logloss", "auc"))


def test_a_dataset_of_another_spec_is_refused(tmp_path, published, monkeypatch):
    monkeypatch.chdir(published.folder)
    data = {"spec": "movielens-100k", "prepared": "prepared"}
    with pytest.raises(PipelineError, match="prepared from another spec than movielens-100k"):
        search(tmp_path, data=data).run()


def test_no_trials_are_a_mistake(tmp_path, capsys):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    command = ["tune", "movielens-100k-afm", "--space", str(path), "--output", str(tmp_path / "s")]
    assert main([*command, "--trials", "0"]) == 2
    assert "--trials must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("metric: acu\nspace: {a: [1]}", "unknown metric 'acu'"),
        ("spaces: {a: [1]}", "space"),
        (
            "space: {optimizer.learning_rate: {low: 1, hig: 2}}",
            r"space.yaml: space.optimizer.learning_rate.high: missing; "
            r"space.optimizer.learning_rate.hig: unknown key \(did you mean 'high'\?\)$",
        ),
        ("space: {training.epoch: [1]}", "training.epoch: unknown key"),
        ("space: {name.x: [1]}", "name is not a section"),
        ("space: {model.embeding_dim: [1]}", "did you mean 'embedding_dim'"),
        ("space: {model.embedding_dim: []}", "space: model.embedding_dim: no value to choose from"),
        ("space: {seed: {low: 2, high: 1}}", "space.seed: low 2 is more than high 1"),
        ("space: {seed: {low: 0, high: 1, log: true}}", "space.seed: log needs low above 0"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, part):
    with pytest.raises(ValueError, match=part) as caught:
        search(tmp_path, text)
    assert "\n" not in str(caught.value)
