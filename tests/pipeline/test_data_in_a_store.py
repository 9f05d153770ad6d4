"""A prepared dataset in an object store serves training as a folder does."""

import json

import pytest

from pipeline.cli import main
from pipeline.config import load_config, parse_config
from pipeline.errors import PipelineError
from tests.support import memory_files

REMOTE = "data.prepared=mem://bucket/clicks"


@pytest.fixture
def stored(inside, monkeypatch, tmp_path):
    """The published log's dataset, uploaded."""
    monkeypatch.setenv("CTR_DATA", str(tmp_path / "cache"))
    memory_files.OBJECTS.clear()
    folder = inside.folder / "prepared"
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            memory_files.OBJECTS[f"mem://bucket/clicks/{name}"] = path.read_bytes()
    return inside


def metrics(run):
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def test_train_and_evaluate_as_from_a_folder(stored, tmp_path):
    arguments = ["--set", REMOTE, "--set", f"output={tmp_path / 'run'}"]
    assert main(["train", "run.yaml", *arguments]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--split", "test"]) == 0
    assert main(["evaluate", str(stored.run), "--split", "test"]) == 0
    found, expected = metrics(tmp_path / "run"), metrics(stored.run)
    assert found["validation"] == expected["validation"]
    assert found["test"] == expected["test"]


def test_inspect_wants_a_folder_for_its_plots(stored, tmp_path, capsys):
    assert main(["inspect", "mem://bucket/clicks"]) == 2
    assert "mem://bucket/clicks is not on this machine: name --output" in capsys.readouterr().err
    assert main(["inspect", "mem://bucket/clicks", "--output", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


def test_a_run_remembers_the_store_and_mistakes_are_one_line(stored):
    config = load_config("run.yaml", [REMOTE])
    again = parse_config(json.loads(config.model_dump_json()), "here")
    assert str(again.data.prepared) == "mem://bucket/clicks"
    assert again.data.source is None
    with pytest.raises(PipelineError, match=r"^run.yaml: data.prepared: .*nosuch") as caught:
        load_config("run.yaml", ["data.prepared=nosuch://bucket/clicks"])
    assert "\n" not in str(caught.value)
