import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import build_parser, main
from pipeline.gating import load_limits
from pipeline.local_server import serving
from pipeline.parity import TOLERANCE, check_server
from pipeline.rundir import Run

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(build_parser()._subparsers._group_actions[0].choices)


def result(capsys, *arguments):
    capsys.readouterr()
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def mistake(capsys, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


@pytest.fixture(scope="module")
def server(published):
    with serving(
        [
            "--model_name=clicks-fm",
            f"--model_base_path={published.version.parent}",
            "--enable_batching=false",
        ]
    ) as at:
        yield at


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "serve"])
def test_help_has_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    example = text.split("example:")[1].split()
    assert example[:4] == ["python", "-m", "pipeline", command]
    build_parser().parse_args(example[3:])


def test_help_does_not_load_tensorflow():
    code = "import sys; from pipeline.cli import build_parser; build_parser(); " + (
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'pydantic', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_commands_are_those_of_the_plan():
    plan = "prepare train evaluate export serve score explain run tune datasets models gate"
    assert {*plan.split(), *["canary", "promote", "rollback", "deploy", "demo"]} <= set(COMMANDS)


def test_run_directory_after_train_and_evaluate(inside, capsys):
    code, found = result(capsys, "evaluate", "runs/clicks-fm")
    assert code == 0
    assert found["test"]["auc"] > 0.7
    assert {"test", "test_calibrated"} <= set(found)
    plots = {path.name for path in (inside.run / "plots").glob("*.png")}
    assert {"history.png", "calibration_test.png", "roc_test.png", "roc_validation.png"} <= plots
    for path in (inside.run / "plots").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((inside.run / "metrics.json").read_text())
    assert {"validation", "validation_calibrated", "test", "parameters"} <= set(metrics)


def test_server_answers_raw_rows_as_keras_answers_the_records(published, server):
    run = Run.load(published.run)
    prepared = run.load_prepared(published.folder / "prepared")
    addresses = {"gRPC": server.grpc, "REST": server.rest}
    for item in check_server(run, prepared, addresses, batch=64):
        assert item.rows == prepared.manifest["splits"]["test"]["rows"]
        assert item.largest <= TOLERANCE


def test_scores_by_grpc_rest_and_saved_model_agree_in_every_format(inside, server, capsys):
    table = pyarrow.csv.read_csv(inside.folder / "clicks.csv").slice(0, 150)
    pyarrow.csv.write_csv(table, "rows.csv")
    pq.write_table(table, "rows.parquet")
    text = [column.cast(pa.string()) for column in table.columns]
    options = pyarrow.csv.WriteOptions(delimiter="\t")
    pyarrow.csv.write_csv(pa.table(text, table.column_names), "rows.tsv", options)
    ways = {
        ("rows.csv", "a.csv"): ["--address", server.grpc, "--model", "clicks-fm"],
        ("rows.parquet", "b.parquet"): ["--address", server.rest, "--model", "clicks-fm"],
        ("rows.tsv", "c.csv"): ["--saved-model", inside.version],
    }
    found = []
    for (source, output), where in ways.items():
        code, told = result(capsys, "score", source, "--output", output, "--batch", 40, *where)
        assert (code, told["rows"]) == (0, 150)
        read = pq.read_table if output.endswith("parquet") else pyarrow.csv.read_csv
        scored = read(output)
        assert scored.column_names == [*table.column_names, "probability", "logit"]
        found.append(np.asarray(scored.column("probability"), np.float64))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert np.ptp(found[0]) > 0.3


@pytest.mark.parametrize("where", ["server", "saved model"])
def test_explanation_is_complete_and_names_fields(inside, server, capsys, where):
    if where == "server":
        at = ["--address", server.grpc, "--model", "clicks-fm"]
    else:
        at = ["--saved-model", inside.version]
    code, found = result(
        capsys, "explain", "clicks.csv", "--row", 2, "--top", 100, "--plots", "heat", *at
    )
    assert code == 0
    parts = sum(part["contribution"] for part in found["first_order"])
    pairs = sum(part["contribution"] for part in found["order_2_contributions"])
    assert found["bias"] + parts + pairs == pytest.approx(found["logit"], abs=1e-5)
    assert {part["field"].split("=")[0] for part in found["first_order"]} == {
        "user",
        "item",
        "tags",
        "price",
    }
    assert len(found["order_2_contributions"]) == 6
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in found["plots"])


def test_bad_rows_are_one_line(inside, capsys):
    local = ["--output", "x.csv", "--saved-model", inside.version]
    Path("bad.csv").write_text("user,item,price\nu1,i1,1.5\nu2,i2,cheap\n")
    error = mistake(capsys, "score", "bad.csv", *local)
    assert "bad.csv: row 2, column 'price': expected a number, got 'cheap'" in error
    Path("other.csv").write_text("a,b\n1,2\n")
    assert "no column 'user'" in mistake(capsys, "score", "other.csv", *local)
    Path("none.csv").write_text("user,item\n")
    assert "none.csv: no rows" in mistake(capsys, "score", "none.csv", *local)
    assert not Path("x.csv").exists()
    assert "no such file" in mistake(capsys, "score", "absent.csv", *local)
    assert "unknown kind of file" in mistake(capsys, "score", "clicks.yaml", *local)
    many = ["--row", 99999, "--saved-model", inside.version]
    assert "no row 99999; the file has 2000" in mistake(capsys, "explain", "clicks.csv", *many)


def test_mistakes_of_train_and_evaluate_are_one_line(inside, capsys, tmp_path):
    run = "run.yaml"
    output = ["--set", f"output={tmp_path / 'r'}"]
    assert "'epochs'" in mistake(capsys, "train", run, "--set", "training.epoch=1", *output)
    assert "unknown model" in mistake(capsys, "train", run, "--set", "model.name=fmm", *output)
    assert "not a run directory" in mistake(capsys, "evaluate", tmp_path)
    assert "unknown split 'tset'" in mistake(
        capsys, "evaluate", "runs/clicks-fm", "--split", "tset"
    )
    spec = yaml.safe_load(Path("clicks.yaml").read_text())
    spec["fields"].pop()
    Path("narrow.yaml").write_text(yaml.safe_dump(spec))
    error = mistake(capsys, "train", run, "--set", "data.spec=narrow.yaml", *output)
    assert "prepared from another spec than narrow.yaml (differs in fields)" in error
    assert "no prepared dataset" in mistake(
        capsys, "train", run, "--set", "data.prepared=absent", *output
    )


def test_run_finds_a_wrong_name_before_it_prepares(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("name: a\ndata: {spec: absent.yaml}\nmodel: {name: fmm}\n")
    assert "unknown model 'fmm'" in mistake(capsys, "run", path)


def test_gate_passes_the_same_model_and_refuses_a_worse_one(inside, server, capsys):
    limits = Path("limits.yaml")
    limits.write_text("metrics: {auc: {worst: 0.6}, logloss: {relative: 0.01}}\nmin_rows: 50\n")
    same = ["gate", "runs/clicks-fm", "--candidate", 1, "--serving", 1, "--address", server.grpc]
    code, report = result(capsys, *same, "--limits", limits)
    assert (code, report["passed"]) == (0, True)
    limits.write_text("metrics: {auc: {worst: 0.999}}\nmin_rows: 50\n")
    code, report = result(capsys, *same, "--limits", limits)
    assert code == 1
    assert any("auc" in reason for reason in report["reasons"])


def test_limits_name_the_key_at_fault(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("metrics: {auc: {wurst: 1}}")
    with pytest.raises(ValueError, match=r"metrics.auc: unknown key 'wurst'"):
        load_limits(path)
    path.write_text("metric: {}")
    with pytest.raises(ValueError, match="did you mean 'metrics'"):
        load_limits(path)


def test_deploy_renders_what_its_own_check_finds_sound(inside, capsys, tmp_path):
    code, found = result(
        capsys, "deploy", "runs/clicks-fm", "--output", tmp_path / "d", "--option", "replicas=3"
    )
    assert (code, found["problems"]) == (0, [])
    assert (tmp_path / "d" / "compose.yaml").is_file()
    error = mistake(
        capsys, "deploy", "runs/clicks-fm", "--output", tmp_path / "e", "--option", "replicas=0"
    )
    assert "replicas" in error


def test_models_lists_the_registry(capsys):
    code, found = result(capsys, "models")
    assert code == 0
    assert {"fm", "afm"} <= {row["name"] for row in found}
    _, one = result(capsys, "models", "afm")
    assert "attention_dim" in one["arguments"]
    assert "afm" in mistake(capsys, "models", "amf")


def test_run_takes_the_prepared_dataset_and_publishes_the_next_version(inside, capsys):
    overrides = ["training.epochs=1", "output=runs/again", "name=again"]
    flags = [flag for override in overrides for flag in ("--set", override)]
    code, found = result(capsys, "run", "run.yaml", *flags)
    assert code == 0
    assert Path(found["version"]) == Path("repository/again/1")
    assert {"prepare", "train", "evaluate", "export"} == set(found["seconds"])
    card = json.loads(Path(found["version"], "assets.extra", "model_card.json").read_text())
    assert card["data"]["content_hash"]
    assert card["metrics"]["test"]["auc"] == pytest.approx(found["metrics"]["test"]["auc"])
