"""Re-running tables: resume, choice by validation, pre-training, errors, records."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.cli import main
from pipeline.errors import PipelineError
from pipeline.experiments import (
    cost,
    definition,
    interpret,
    readme,
    records,
    runner,
    table,
)
from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records
from pipeline.experiments.runner import Runner
from pipeline.files import fill_marks
from tests.pipeline.support import MemoryPrepared
from tests.pipeline.tables import FM, LR, record, write_table

STILL_OR_MOVING = {
    "still": {"optimizer": {"learning_rate": 1e-9}},
    "moving": {"optimizer": {"learning_rate": 0.05}},
}
EXPECTED = {"auc": 0.63429, "logloss": 0.66189, "rmse": 0.48462}


def run(experiment: Experiment, place: Path, rows, seeds=1, resume=False) -> Records:
    kept = Records(place / "records.jsonl")
    asked = Runner(experiment, kept, MemoryPrepared(), place / "runs", resume)
    list(asked.run(rows, seeds))
    return kept


def afm_after_a_chosen_fm(place: Path, rate: float = 0.05) -> Experiment:
    """AFM that begins with the vectors of an FM that tries a rate of next to nothing and `rate`."""
    candidates = {
        "still": {"optimizer": {"learning_rate": 1e-6}},
        "moving": {"optimizer": {"learning_rate": rate}},
    }
    afm = {"run": {"model": {"name": "afm"}}, "pretrain": "fm"}
    return write_table(place / "tiny", {"fm": FM, "afm": afm}, candidates=candidates)


def without_cost(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in ("seconds", "cpu_seconds")}


def test_resume_trains_only_what_is_missing_or_changed(tmp_path, monkeypatch):
    trained = []

    def pretend(self, job, test, fresh):
        trained.append(str(job))
        return record(job.row, 0.7, job.seed, fingerprint=self._fingerprint(job))

    monkeypatch.setattr(Runner, "_train", pretend)
    experiment = write_table(tmp_path / "tiny", {"lr": LR})
    run(experiment, tmp_path, ["lr"])
    assert trained == ["lr, seed 1"]
    run(experiment, tmp_path, ["lr"], seeds=2, resume=True)
    assert trained[1:] == ["lr, seed 2"]
    run(experiment, tmp_path, ["lr"])
    assert trained[2:] == ["lr, seed 1"], "without --resume the row is trained anew"
    changed = {**LR, "run": {**LR["run"], "optimizer": {"learning_rate": 0.01}}}
    experiment = write_table(tmp_path / "tiny", {"lr": changed})
    run(experiment, tmp_path, ["lr"], resume=True)
    assert trained[3:] == ["lr, seed 1"], "another setting makes the record stale"


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    experiment = write_table(tmp_path / "tiny", {"lr": LR})
    whole = run(experiment, tmp_path / "whole", ["lr"])

    def cut(self, epoch, logs=None):
        self.add()
        if epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cost.Cost, "on_epoch_end", cut)
        with pytest.raises(KeyboardInterrupt):
            run(experiment, tmp_path / "cut", ["lr"])
    assert not len(Records(tmp_path / "cut" / "records.jsonl"))
    begun = cost.read_cost(tmp_path / "cut" / "runs" / "tiny" / "lr-1" / "cost.json")
    resumed = run(experiment, tmp_path / "cut", ["lr"], resume=True)
    one, two = whole.get("lr", "", 1), resumed.get("lr", "", 1)
    assert without_cost(one) == without_cost(two)
    assert two["cpu_seconds"] > begun["cpu_seconds"] > 0


def test_validation_chooses_and_only_the_chosen_setting_is_tested(tmp_path, monkeypatch):
    tested = []
    evaluate = runner.evaluate_run

    def spy(run, *rest, **options):
        tested.append(run.directory.name)
        return evaluate(run, *rest, **options)

    monkeypatch.setattr(runner, "evaluate_run", spy)
    experiment = write_table(tmp_path / "tiny", {"lr": LR}, candidates=STILL_OR_MOVING)
    kept = run(experiment, tmp_path, ["lr"])
    assert tested == ["lr-moving-1"]
    assert "test" not in kept.get("lr", "still", 1)
    assert "test" in kept.get("lr", "moving", 1)

    def pretend(self, job, test, fresh):
        return record(job.row, 0.7, job.seed, variant=job.variant)

    # The second seed trains the chosen setting alone; nothing else is trained or tested again.
    monkeypatch.setattr(Runner, "_train", pretend)
    kept = run(experiment, tmp_path, ["lr"], seeds=2, resume=True)
    assert [(item["variant"], item["seed"]) for item in table.final_records(kept, "lr")] == [
        ("moving", 1),
        ("moving", 2),
    ]
    assert len(tested) == 1


@pytest.mark.parametrize("select", ["auc-logloss", "normalized_entropy"])
def test_any_metric_of_validation_chooses(tmp_path, select):
    experiment = write_table(
        tmp_path / "tiny", {"lr": LR}, candidates=STILL_OR_MOVING, select=select
    )
    kept = run(experiment, tmp_path, ["lr"])
    assert select in kept.get("lr", "still", 1)["validation"]
    assert "test" in kept.get("lr", "moving", 1)


def test_pretraining_runs_the_source_first_and_records_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.rundir.load_prepared", lambda path: MemoryPrepared())
    afm = {"run": {"model": {"name": "afm"}}, "pretrain": "fm", "pairs": True}
    experiment = write_table(tmp_path / "tiny", {"fm": FM, "afm": afm})
    kept = run(experiment, tmp_path, ["afm"])
    assert [record["row"] for record in kept] == ["afm", "fm"]
    directory = tmp_path / "runs" / "tiny"
    # The source's run is there: it is not trained again for records that are kept elsewhere.
    kept.path.unlink()
    assert [record["row"] for record in run(experiment, tmp_path, ["afm"])] == ["afm"]
    kept = Records(kept.path)
    resolved = yaml.safe_load((directory / "afm-1" / "config.yaml").read_text())
    assert resolved["training"]["init_from"] == str(directory / "fm-1")
    pairs = kept.get("afm", "", 1)["pairs"]
    assert pairs["fields"] == ["f0", "f1", "f2"]
    # Attention is a softmax over the pairs.
    assert np.triu(np.array(pairs["order_2_weights"])).sum() == pytest.approx(1.0, abs=1e-4)
    strongest = interpret.strongest(pairs, "order_2_weights")
    assert len(strongest) == 3
    assert sum(share for _, _, share in strongest) == pytest.approx(1.0)
    # A change of the source makes the row's record stale as well.
    before = experiment.fingerprint("afm", "", 1, "data")
    other = {**FM, "run": {"model": {"name": "fm", "dropout": 0.5}}}
    after = write_table(tmp_path / "tiny", {"fm": other, "afm": afm})
    assert after.fingerprint("afm", "", 1, "data") != before


def test_pretraining_begins_with_the_setting_that_the_source_chooses(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.rundir.load_prepared", lambda path: MemoryPrepared())
    experiment = afm_after_a_chosen_fm(tmp_path)
    kept = run(experiment, tmp_path, ["afm"])
    assert [item["variant"] for item in kept.of("fm")] == ["moving", "still"]
    directory = tmp_path / "runs" / "tiny"
    for variant in ("still", "moving"):
        text = (directory / f"afm-{variant}-1" / "config.yaml").read_text()
        begun = yaml.safe_load(text)["training"]["init_from"]
        assert begun == str(directory / "fm-moving-1")
    # Each setting that the source tries is part of what the row's record stands for.
    before = experiment.fingerprint("afm", "still", 1, "data")
    after = afm_after_a_chosen_fm(tmp_path, rate=0.04)
    assert after.fingerprint("afm", "still", 1, "data") != before


def test_a_source_trained_again_for_its_vectors_keeps_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.rundir.load_prepared", lambda path: MemoryPrepared())
    experiment = afm_after_a_chosen_fm(tmp_path)
    before = list(run(experiment, tmp_path, ["fm"]).of("fm"))
    assert ["test" in item for item in before] == [True, False]
    shutil.rmtree(tmp_path / "runs")
    after = run(experiment, tmp_path, ["afm"], resume=True).of("fm")
    assert after == before
    # Only the chosen setting's vectors were needed.
    assert sorted(path.name for path in (tmp_path / "runs" / "tiny").glob("fm-*")) == [
        "fm-moving-1"
    ]


_PUT_ALL = """
import json, sys
from pathlib import Path
from pipeline.experiments.records import Records

kept = Records(Path(sys.argv[1]))
for seed in range(40):
    kept.put(json.loads(sys.argv[2]) | {"seed": seed})
"""


def test_processes_that_run_rows_of_one_table_keep_each_others_records(tmp_path):
    path = tmp_path / "records.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", _PUT_ALL, path, json.dumps(record(row, 0.7))])
        for row in ("lr", "fm")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(Records(path).of("lr")) == len(Records(path).of("fm")) == 40


def test_mistakes_are_named(tmp_path, capsys):
    assert main(["reproduce", "frape-rmse"]) == 2
    assert "unknown table 'frape-rmse' (did you mean 'frappe-rmse'" in capsys.readouterr().err
    assert main(["reproduce", "frappe-rmse", "--only", "afn"]) == 2
    assert "unknown row of frappe-rmse 'afn' (did you mean 'afm'" in capsys.readouterr().err
    experiment = write_table(tmp_path / "tiny", {"lr": LR})
    with pytest.raises(PipelineError, match="--seeds 3: tiny has 1 to 2 seeds"):
        run(experiment, tmp_path, ["lr"], seeds=3)
    with pytest.raises(PipelineError, match=r"lr.yaml: publishd: .*did you mean 'published'"):
        write_table(tmp_path / "tiny", {"lr": {"publishd": {}}})
    with pytest.raises(PipelineError, match="pretrain: no row 'fn'"):
        write_table(tmp_path / "tiny", {"lr": {**LR, "pretrain": "fn"}})
    curve = {**FM, "sweep": {"key": "model.dropout", "values": [0.0, 0.5]}}
    with pytest.raises(PipelineError, match="pretrain: 'fm' is a curve, not one run"):
        write_table(tmp_path / "curve", {"fm": curve, "lr": {**LR, "pretrain": "fm"}})
    with pytest.raises(PipelineError, match="rows: 'fm' is not both here and a file"):
        write_table(tmp_path / "tiny", {"lr": LR}, rows=["lr", "fm"])
    with pytest.raises(PipelineError, match=r"rows_of: no table 'tinny' \(did you mean 'tiny'"):
        write_table(tmp_path / "again", {}, rows=["lr"], rows_of="tinny")
    with pytest.raises(PipelineError, match=r"rows_of: lr\.yaml is here too, not in 'curve'"):
        write_table(tmp_path / "again", {"lr": LR}, rows_of="curve")
    with pytest.raises(PipelineError, match="expected the marks"):
        fill_marks("no marks", readme.MARKS, "", Path("README.md"))


def test_the_smallest_row_end_to_end_gives_its_record(tmp_path, monkeypatch, capsys):
    """From the command to record, README and plot; the expected record was made once."""
    configs = tmp_path / "configs"
    write_table(configs / "tiny", {"fm": FM})
    for function in (definition.names, definition.load):
        monkeypatch.setattr(function, "__defaults__", (configs,))
    monkeypatch.setattr(definition.selection, "__defaults__", (None, configs))
    monkeypatch.setattr("pipeline.stages.prepare", lambda config, console: MemoryPrepared())
    places = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main(["reproduce", "tiny", "--seeds", "1", "--json", *places]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["test"] == pytest.approx(EXPECTED, abs=0.002)
    assert found["fingerprint"] == "2c84632c0886719d"
    assert found == json.loads((tmp_path / "results" / "tiny.jsonl").read_text())
    text = (tmp_path / "results" / "README.md").read_text()
    assert f"| {found['test']['auc']:.4f} | 0.8000 |" in text
    assert (tmp_path / "results" / "plots" / "tiny.png").stat().st_size > 1000
    assert main(["reproduce", "list", "--results", str(tmp_path / "results")]) == 0
    assert "1 of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_the_smallest_real_row_gives_its_committed_record(shared_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = shared_data / "frappe"
    places = ["--results", "results", "--runs", "runs", "--data", str(data)]
    assert main(["reproduce", "frappe-ctr-bars", "--only", "lr", "--seeds", "1", *places]) == 0
    found = Records(Path("results/frappe-ctr-bars.jsonl")).get("lr", "", 2024)
    known = records.load("frappe-ctr-bars").get("lr", "", 2024)
    assert found["parameters"] == known["parameters"]
    for metric in ("auc", "logloss"):
        assert found["test"][metric] == pytest.approx(known["test"][metric], abs=1e-3)
