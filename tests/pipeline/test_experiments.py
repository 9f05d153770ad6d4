"""What the records become: tables, curves, pairs; and whether those committed are in step."""

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
    definition,
    functions,
    interpret,
    overview,
    readme,
    records,
    table,
)
from pipeline.experiments.pairs import mean_pairs
from pipeline.experiments.records import Records
from pipeline.files import fill_marks
from pipeline.tune import SearchSpace
from tests.pipeline.support import MemoryPrepared
from tests.pipeline.tables import BASE, FM, LR, record, write_table


def test_recorded_pairs_keep_their_digits_where_contributions_are_tiny():
    prepared = MemoryPrepared()
    features = models.Features.from_fields(prepared.manifest["num_features"], prepared.fields)
    model = models.build("fm", features, embedding_dim=4)
    model.embedding.table.assign(np.full(model.embedding.table.shape, 1e-4))
    found = mean_pairs(model, prepared)
    # v_i . v_j = 4e-8 for each pair, half of it at (i, j) and half at (j, i).
    assert found["order_2_contributions"][0][1:] == pytest.approx([2e-8, 2e-8], rel=1e-4)
    assert found["fields"] == ["f0", "f1", "f2"]


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


def test_the_overview_counts_rows_seeds_and_published_figures_met(tmp_path):
    published = {"auc": 0.8, "logloss": 0.4}
    files = {"lr": {**LR, "published": published}, "fm": {**FM, "published": published}, "nfm": FM}
    experiment = write_table(tmp_path / "tiny", files, metrics=["auc", "logloss"])
    kept = Records(tmp_path / "records.jsonl")
    # FM's mean AUC, .79999, is shown as .8000: level. Both meet the logloss: less is better.
    for row, seed, auc, logloss in (
        ("lr", 1, 0.7, 0.39),
        ("fm", 1, 0.79998, 0.37),
        ("fm", 2, 0.8, 0.39),
    ):
        kept.put(record(row, 0.0, seed, test={"auc": auc, "logloss": logloss}))
    curve = {"fm": {**FM, "sweep": {"key": "model.embedding_dim", "values": [2, 4]}}}
    curves = write_table(tmp_path / "curve", curve)
    text = overview.markdown([(experiment, kept), (curves, Records(tmp_path / "none"))])
    assert text.splitlines()[2:] == [
        "| [tiny](#tiny) | 2 of 3 | 1 | AUC 1 of 2, logloss 2 of 2 |"
        " fm: AUC 0.8000 ± 0.0000, logloss 0.3800 ± 0.0141 |"
    ]
    empty = overview.markdown([(experiment, Records(tmp_path / "none"))])
    assert empty.splitlines()[2:] == ["| [tiny](#tiny) | 0 of 3 | 0 |  |  |"]
    other = write_table(tmp_path / "other", files, comparable=False)
    assert "| only the order is comparable |" in overview.markdown([(other, kept)])


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


@pytest.mark.parametrize("change", [{"select": "acu"}, {"metrics": ["auc", "acu"]}])
def test_an_unknown_metric_is_told_by_key(tmp_path, change):
    with pytest.raises(PipelineError, match=rf"table.yaml.*{next(iter(change))}.*metric 'acu'"):
        write_table(tmp_path / "tiny", {"lr": LR}, **change)


def test_a_table_may_have_the_rows_of_another_under_a_base_of_its_own(tmp_path):
    known = write_table(tmp_path / "known", {"lr": LR, "fm": {**FM, "pretrain": "lr"}})
    base = {**BASE, "optimizer": {"learning_rate": 0.01, "use_ema": True}}
    other = write_table(tmp_path / "other", {}, rows=["lr", "fm"], rows_of="known", base=base)
    assert other.rows == known.rows
    assert other.tree("fm") == {**known.tree("fm"), "optimizer": base["optimizer"]}
    kept = Records(tmp_path / "records.jsonl")
    kept.put(record("fm", 0.80))
    text = table.markdown(other, kept)
    assert "| [fm](configs/known/fm.yaml) | 0.8000 | 0.8000 | +0.0000 |" in text
    assert definition.names(tmp_path) == ["known", "other"]
    # A part of the rows would leave out unseen what the other table gains later.
    with pytest.raises(PipelineError, match="rows: 'fm' is not both here and a file"):
        write_table(tmp_path / "other", {}, rows=["lr"], rows_of="known")


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


def test_the_best_on_frappe_is_a_configuration_to_run():
    best, shipped = definition.load("frappe-best"), load_config("frappe-deepfm")
    recorded = best.config("deepfm-averaged", "", shipped.seed, Path("runs"))
    assert shipped.model == recorded.model
    assert shipped.optimizer == recorded.optimizer
    assert shipped.training.model_copy(update={"tensorboard": False}) == recorded.training


def test_the_search_for_the_best_fits_its_model():
    folder = definition.CONFIGS.parent / "tune"
    space = SearchSpace.model_validate(
        yaml.safe_load((folder / "space.yaml").read_text(encoding="utf-8"))
    )
    keys = {key.removeprefix("model.") for key in space.space if key.startswith("model.")}
    config = load_config(folder / "frappe.yaml")
    assert keys <= set(constructor_arguments(models.entry(config.model.name).cls))
