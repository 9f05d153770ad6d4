import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import serving.export
import serving.verify
from serving.export import ExportError, export, remove_version, versions
from serving.model_card import code_version, read_model_card, write_model_card
from serving.verify import Case, VerificationError, verify, verify_in_fresh_process
from tests.serving.support import COLUMNS, make_rows


@pytest.fixture
def quick_export(served, tmp_path, monkeypatch):
    """`export` without its fresh process, for the tests of what surrounds it."""
    monkeypatch.setattr(
        serving.export, "verify_in_fresh_process", lambda directory, case: {"rows": 1}
    )
    model, transform, rows = served

    def call(**arguments):
        given = {"rows": rows, "base_path": tmp_path, "name": "ctr", **arguments}
        return export(model, transform, COLUMNS, **given)

    return call


def test_published_directory_is_complete(model_directory):
    files = {str(p.relative_to(model_directory)) for p in model_directory.rglob("*") if p.is_file()}
    extra = {"model_card.json", "model_card.md", "tf_serving_warmup_requests"}
    assert {f"assets.extra/{name}" for name in extra} <= files
    assert {"saved_model.pb", "variables/variables.index"} <= files
    assert [p.name for p in model_directory.parent.iterdir()] == ["1"], "staging was left behind"
    assert model_directory.stat().st_mode & 0o055 == 0o055, "another user must be able to read"


def test_only_what_the_signatures_read_is_saved(model_directory):
    names = [
        name for name, _ in tf.train.list_variables(str(model_directory / "variables/variables"))
    ]
    assert not [name for name in names if "optimizer" in name.lower()]
    assert len([name for name in names if name.startswith("weights")]) == 3


def test_card_says_what_was_verified(model_directory):
    card = read_model_card(model_directory)
    assert card["verification"]["rows"] == 64
    assert card["verification"]["largest_difference"] <= 1e-6
    assert card["columns"][3] == {"name": "item class", "dtype": "string", "required": False}
    assert [step["kind"] for step in card["calibration"]] == ["downsampling", "platt"]
    text = (model_directory / "assets.extra" / "model_card.md").read_text()
    assert "| test | 0.75 | 0.5 |" in text
    assert "tests \\| only" in text


def test_card_tells_the_code_version(model_directory, monkeypatch):
    assert read_model_card(model_directory)["code_version"]
    monkeypatch.setenv("PATH", "")
    assert code_version() == "unknown"


def test_card_takes_numpy_and_nan(tmp_path):
    card = {"name": "m", "auc": np.float32(0.125), "loss": float("nan"), "sizes": np.arange(2)}
    write_model_card(tmp_path, {**card, "fields": [{"name": "a", "size": 3}]})
    assert read_model_card(tmp_path)["sizes"] == [0, 1]
    assert read_model_card(tmp_path)["loss"] == "nan"
    text = (tmp_path / "assets.extra" / "model_card.md").read_text()
    assert "- **Auc**: 0.125" in text
    assert "| a | 3 |" in text


def test_a_model_that_answers_otherwise_is_refused(served, model_directory, tmp_path):
    """The whole check in its fresh process, against a Keras model that says something else."""
    case = _case(served, shift=1e-5)
    with pytest.raises(VerificationError, match=r"not published: .*logit is off by"):
        verify_in_fresh_process(model_directory, case)


def test_refused_models_leave_nothing(served, tmp_path, monkeypatch):
    def refuse(directory, case):
        raise VerificationError("not published: because")

    monkeypatch.setattr(serving.export, "verify_in_fresh_process", refuse)
    model, transform, rows = served
    with pytest.raises(VerificationError, match="because"):
        export(model, transform, COLUMNS, tmp_path, "ctr", rows=rows)
    assert list((tmp_path / "ctr").iterdir()) == []


def test_verify_notices_each_kind_of_difference(served, model_directory):
    # This case does not know of the calibration that the saved model applies.
    report = verify(model_directory, _case(served))
    assert any("probability is off" in failure for failure in report["failures"])
    assert not any("logit is off" in failure for failure in report["failures"])


def test_a_process_that_dies_is_one_line(served, model_directory, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho first >&2\necho 'OSError: no SavedModel' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(VerificationError) as caught:
        verify_in_fresh_process(model_directory, _case(served))
    assert str(caught.value) == "the saved model could not be checked: OSError: no SavedModel"


def test_versions_count_up_and_are_never_overwritten(quick_export, tmp_path):
    assert quick_export().name == "1"
    assert quick_export(version=20).name == "20"
    (tmp_path / "ctr" / "not-a-version").mkdir()
    assert quick_export().name == "21"
    before = (tmp_path / "ctr" / "20" / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="20 exists; versions are never overwritten"):
        quick_export(version=20)
    assert (tmp_path / "ctr" / "20" / "saved_model.pb").stat().st_mtime_ns == before


def test_two_exports_at_once_take_two_numbers(quick_export, tmp_path, monkeypatch):
    """The other export publishes version 1 while this one is being verified."""

    def other_export_wins(directory, case):
        shutil.copytree(directory, tmp_path / "ctr" / "1")
        return {}

    monkeypatch.setattr(serving.export, "verify_in_fresh_process", other_export_wins)
    assert quick_export().name == "2"


def test_remove_version(quick_export, tmp_path):
    quick_export()
    quick_export()
    remove_version(tmp_path, "ctr", 1)
    assert list(versions(tmp_path / "ctr")) == [2]
    with pytest.raises(FileNotFoundError, match="no version 1"):
        remove_version(tmp_path, "ctr", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "../ctr"}, "model name '../ctr'"),
        ({"name": ""}, "model name ''"),
        ({"version": 0}, "version 0: expected a positive integer"),
        ({"version": "3"}, "version '3'"),
        ({"rows": {}}, "no values for column 'user'"),
        ({"rows": {**make_rows(3), "user": ["a"]}}, "one or more rows in every column"),
        ({"rows": {**make_rows(3), "age": ["a", 1, 2]}}, "column 'age', row 0: expected a number"),
        ({"calibration": {"kind": "beta"}}, "expected a step of kind"),
    ],
)
def test_bad_requests_are_one_line(quick_export, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        quick_export(**arguments)
    assert "\n" not in str(caught.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_full_disk_is_one_line_and_leaves_nothing(quick_export, tmp_path, monkeypatch):
    def full(directory, scorer):
        directory.mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "variables: No space left\n[[node]]")

    monkeypatch.setattr(serving.export, "write_saved_model", full)
    with pytest.raises(ExportError, match=r"cannot be written: variables: No space left$"):
        quick_export()
    assert list((tmp_path / "ctr").iterdir()) == []


def test_a_check_that_hangs_ends(served, model_directory, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(serving.verify, "_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(VerificationError, match=r"could not be checked within 0\.2 s"):
        verify_in_fresh_process(model_directory, _case(served))


def test_a_required_column_has_no_default(served, tmp_path, monkeypatch):
    monkeypatch.setattr(
        serving.export, "verify_in_fresh_process", lambda directory, case: verify(directory, case)
    )
    model, transform, rows = served
    columns = [{**COLUMNS[0], "required": True}, *COLUMNS[1:]]
    path = export(model, transform, columns, tmp_path, "ctr", rows=rows)
    from serving.session import SavedModelSession

    with SavedModelSession(path) as session:
        assert "user" not in session.signature_defs["serving_default"].defaults
        assert "age" in session.signature_defs["serving_default"].defaults
        empty = np.array([tf.train.Example().SerializeToString()], object)
        with pytest.raises(tf.errors.InvalidArgumentError, match="user"):
            session.run("serialized_examples", {"examples": empty})


def test_a_model_that_answers_nan_is_refused(quick_export, served):
    rows = make_rows(3)
    rows["price"][1] = np.inf
    with pytest.raises(ExportError, match=r"the model answers .* for row 1"):
        quick_export(rows=rows)


def test_saved_model_cli_runs_it(model_directory, served, tmp_path):
    """A foreign loader, in a process of its own, reads the same answers."""
    rows = {name: values[:2] for name, values in served[2].items()}
    expressions = ";".join(
        f"{name}={[v.decode('latin-1') for v in values]!r}"
        if values.dtype == object
        else f"{name}={np.nan_to_num(values).tolist()!r}"
        for name, values in rows.items()
    )
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
    command += ["--dir", str(model_directory), "--tag_set", "serve"]
    command += ["--signature_def", "serving_default", "--input_exprs", expressions]
    command += ["--outdir", str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert np.load(tmp_path / "probability.npy").shape == (2,)


def _case(served, shift=0.0) -> Case:
    from serving.columns import parse_columns
    from tests.serving.support import keras_probabilities

    model, transform, rows = served
    expected = keras_probabilities(model, transform, rows) + shift
    case = Case(parse_columns(COLUMNS), rows, "probability", expected)
    return Case.from_json(json.loads(json.dumps(case.to_json())))
