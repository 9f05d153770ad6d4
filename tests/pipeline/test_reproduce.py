"""Re-running tables: resume, choice by validation, pre-training, rendering, errors, records."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import models
from models.zoo import constructor_arguments
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.experiments import (
    cost,
    definition,
    functions,
    interpret,
    readme,
    records,
    runner,
    table,
)
from pipeline.experiments.definition import Experiment
from pipeline.experiments.pairs import mean_pairs
from pipeline.experiments.records import Records
from pipeline.experiments.runner import Runner
from pipeline.files import fill_marks
from pipeline.tune import SearchSpace
from tests.pipeline.support import MemoryPrepared

BASE = {
    "data": {"spec": "memory"},
    "model": {"embedding_dim": 4},
    "optimizer": {"learning_rate": 0.05},
    # XLA takes longer to compile such a model than to train it.
    "training": {"epochs": 2, "batch_size": 128, "tensorboard": False, "jit_compile": False},
}
LR = {"run": {"model": {"name": "lr", "embedding_dim": None}}, "published": {"auc": 0.7}}
FM = {"run": {"model": {"name": "fm"}}, "published": {"auc": 0.8}, "published_parameters": "390"}
EXPECTED = {"auc": 0.63429, "logloss": 0.66189, "rmse": 0.48462}


def write_table(folder: Path, files: dict, **changes) -> Experiment:
    tree = {
        "title": "Tiny",
        "published_in": "a paper",
        "budget": "none",
        "metrics": ["auc"],
        "select": "auc",
        "seeds": [1, 2],
        "rows": list(files),
        "base": BASE,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    for name, row in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(row), encoding="utf-8")
    return Experiment(folder)


def run(experiment: Experiment, place: Path, rows, seeds=1, resume=False) -> Records:
    kept = Records(place / "records.jsonl")
    asked = Runner(experiment, kept, MemoryPrepared(), place / "runs", resume)
    list(asked.run(rows, seeds))
    return kept


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
    candidates = {
        "still": {"optimizer": {"learning_rate": 1e-9}},
        "moving": {"optimizer": {"learning_rate": 0.05}},
    }
    experiment = write_table(tmp_path / "tiny", {"lr": LR}, candidates=candidates)
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


def test_recorded_pairs_keep_their_digits_where_contributions_are_tiny():
    prepared = MemoryPrepared()
    features = models.Features.from_fields(prepared.manifest["num_features"], prepared.fields)
    model = models.build("fm", features, embedding_dim=4)
    model.embedding.table.assign(np.full(model.embedding.table.shape, 1e-4))
    found = mean_pairs(model, prepared)
    # v_i . v_j = 4e-8 for each pair, half of it at (i, j) and half at (j, i).
    assert found["order_2_contributions"][0][1:] == pytest.approx([2e-8, 2e-8], rel=1e-4)
    assert found["fields"] == ["f0", "f1", "f2"]


def test_pretraining_begins_with_the_setting_that_the_source_chooses(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.rundir.load_prepared", lambda path: MemoryPrepared())
    candidates = {
        "still": {"optimizer": {"learning_rate": 1e-6}},
        "moving": {"optimizer": {"learning_rate": 0.05}},
    }
    afm = {"run": {"model": {"name": "afm"}}, "pretrain": "fm"}
    experiment = write_table(tmp_path / "tiny", {"fm": FM, "afm": afm}, candidates=candidates)
    kept = run(experiment, tmp_path, ["afm"])
    assert [item["variant"] for item in kept.of("fm")] == ["moving", "still"]
    directory = tmp_path / "runs" / "tiny"
    for variant in candidates:
        text = (directory / f"afm-{variant}-1" / "config.yaml").read_text()
        begun = yaml.safe_load(text)["training"]["init_from"]
        assert begun == str(directory / "fm-moving-1")
    # Each setting that the source tries is part of what the row's record stands for.
    before = experiment.fingerprint("afm", "still", 1, "data")
    candidates["moving"]["optimizer"]["learning_rate"] = 0.04
    after = write_table(tmp_path / "tiny", {"fm": FM, "afm": afm}, candidates=candidates)
    assert after.fingerprint("afm", "still", 1, "data") != before


def record(row: str, auc: float, seed: int = 1, **changed) -> dict:
    return {
        "row": row,
        "variant": "",
        "seed": seed,
        "validation": {"auc": auc},
        "test": {"auc": auc},
        "parameters": 1234,
        "epochs": 5,
        "best_epoch": 3,
        "seconds": 20.0,
        "cpu_seconds": 10.4,
        "machine": "a machine, 2 cores",
        "versions": {"tensorflow": "2", "keras": "3"},
        "data": {"name": "memory", "content_hash": "abcdef0123456789ff"},
        "fingerprint": "",
        **changed,
    }


def test_a_table_says_what_was_run_and_how_it_compares(tmp_path):
    rows = {"lr": LR, "fm": {**FM, "note": "with care"}, "afm": {"run": {"model": {"name": "afm"}}}}
    experiment = write_table(tmp_path / "tiny", rows, baseline="lr", caveats=["Made data."])
    kept = Records(tmp_path / "records.jsonl")
    for item in (record("lr", 0.69), record("fm", 0.80), record("fm", 0.82, seed=2)):
        kept.put(item)
    text = table.markdown(experiment, kept)
    assert text.index("> Made data.") < text.index("| model | AUC |")
    assert (
        "| [fm](configs/tiny/fm.yaml) | 0.8100 ± 0.0141 | 0.8000 | +0.0100 | +0.0200 | 1,234 |"
        " 390 | 3 of 5 | 20 | 10 | 2 | a |" in text
    )
    assert "| [lr](configs/tiny/lr.yaml) | 0.6900 | 0.7000 | -0.0100 |  | 1,234 |" in text
    assert (
        "* run a: data memory abcdef0123456789; a machine, 2 cores; tensorflow 2, keras 3" in text
    )
    assert "* fm: with care" in text
    assert "Not run yet: `afm`." in text
    assert [item["row"] for item in Records(kept.path)] == ["fm", "fm", "lr"]


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


def test_a_sweep_has_a_run_a_value_and_its_keys_reach_the_configuration(tmp_path):
    curve = {"run": {"model": {"name": "nfm"}}, "note": "as told"}
    curve["sweep"] = {"key": "model.hidden_units", "values": [[8], [8, 8]]}
    # A row that is no curve is there for others to begin with.
    rows = {"fm": FM, "deep": curve}
    experiment = write_table(tmp_path / "sweeps", rows, read_test=False)
    variants = experiment.variants("deep")
    assert [experiment.tree("deep", v)["model"]["hidden_units"] for v in variants] == [[8], [8, 8]]
    kept = Records(tmp_path / "records.jsonl")
    item = record("deep", 0.7, variant=variants[1])
    del item["test"]
    kept.put(item)
    text = readme.curves.markdown(experiment, kept)
    assert (
        "| [deep](configs/sweeps/deep.yaml) | `model.hidden_units` | [8, 8]: 0.7000 | as told |"
        in text
    )


def test_planted_pairs_are_found_where_the_weights_follow_them():
    strength = interpret.planted_strength()
    pairs = {"fields": list("abcdefghij"), "order_2_contributions": (strength / 2).tolist()}
    found = interpret.recovery({"pairs": pairs})
    assert found["precision"] == found["top"] == 1.0
    assert found["rank"] == pytest.approx(1.0)
    assert 0 < found["chance"] < 1
    pairs["order_2_contributions"] = (-strength).tolist()
    assert interpret.recovery({"pairs": pairs})["top"] < found["chance"]


def test_the_functions_of_section_4_6_are_fitted_recorded_and_drawn(tmp_path, monkeypatch, capsys):
    assert {f"{f} {m}" for f in functions.FUNCTIONS for m in functions.MODELS} == set(
        definition.FUNCTION_ROWS
    )
    one = functions.fit("polynomial", "fm", 2, seed=1, epochs=60)
    assert one["parameters"] == 1 + 4 + 4 * 2
    assert functions.fit("polynomial", "network", 3, seed=1, epochs=1)["parameters"] == 3 * 3 + 4
    # The variance is .57: sixty epochs are enough for the pairs to have taken up most of it.
    assert one["test"]["mse"] < 0.2
    monkeypatch.setattr(functions, "_EPOCHS", 1)
    monkeypatch.setattr(
        functions, "MODELS", {name: (build, (1,)) for name, (build, _) in functions.MODELS.items()}
    )
    place = ["--seeds", "1", "--results", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert main(["reproduce", functions.NAME, *place]) == 0
    assert "| nonlinear | network |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "plots" / f"{functions.NAME}.png").is_file()
    assert len(records.load(functions.NAME, tmp_path)) == 4
    assert main(["reproduce", functions.NAME, "--only", "fm", *place]) == 2
    assert "--only: sparse-interactions-functions is run whole" in capsys.readouterr().err


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


def test_the_readme_holds_what_the_records_say():
    text = readme.README.read_text(encoding="utf-8")
    assert fill_marks(text, readme.MARKS, readme.generated(records.RESULTS), readme.README) == text
    for name in definition.names():
        if len(records.load(name)):
            assert (readme.README.parent / "plots" / f"{name}.png").is_file()


def test_committed_records_fit_their_configurations():
    for name in definition.names():
        experiment = definition.load(name)
        for kept in records.load(name):
            key = kept["row"], kept["variant"], kept["seed"]
            content = kept["data"]["content_hash"]
            assert experiment.fingerprint(*key, content) == kept["fingerprint"], (name, *key)


def test_every_row_is_a_run_its_model_takes(tmp_path):
    for name in definition.names():
        experiment = definition.load(name)
        assert experiment.table.baseline in {None, *experiment.rows}
        for row in experiment.rows:
            for variant in experiment.variants(row):
                model = experiment.config(row, variant, 1, tmp_path).model
                accepted = constructor_arguments(models.entry(model.name).cls)
                assert set(model.arguments) <= set(accepted), (name, row)


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


def test_the_search_for_the_best_fits_its_model():
    folder = definition.CONFIGS.parent / "tune"
    space = SearchSpace.model_validate(
        yaml.safe_load((folder / "space.yaml").read_text(encoding="utf-8"))
    )
    keys = {key.removeprefix("model.") for key in space.space if key.startswith("model.")}
    config = load_config(folder / "frappe.yaml")
    assert keys <= set(constructor_arguments(models.entry(config.model.name).cls))
