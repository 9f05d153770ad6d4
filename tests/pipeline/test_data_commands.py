"""`datasets infer` and `inspect`, as a user types them."""

import json
from pathlib import Path

from pipeline.cli import main
from preprocessing.schema import DatasetSpec

LOG = "clicked,user,city\n" + "".join(f"{i % 2},u{i % 9},c{i % 4}\n" for i in range(60))


def run(capsys, *arguments):
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_infer_prints_or_writes_and_never_overwrites_unasked(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text(LOG)
    code, printed, _ = run(capsys, "datasets", "infer", "log.csv")
    assert (code, printed.splitlines()[1]) == (0, "name: log")
    code, said, _ = run(capsys, "datasets", "infer", "log.csv", "--output", "log.yaml")
    assert (code, said) == (0, "wrote log.yaml\n")
    assert Path("log.yaml").read_text() == printed
    assert DatasetSpec.load("log.yaml").label.column == "clicked"
    Path("log.yaml").write_text("mine")
    code, _, error = run(capsys, "datasets", "infer", "log.csv", "--output", "log.yaml")
    assert code == 2
    assert error == "error: log.yaml exists: not replaced (--force replaces it)\n"
    assert Path("log.yaml").read_text() == "mine"
    code, said, _ = run(capsys, "datasets", "infer", "log.csv", "--output", "log.yaml", "--force")
    assert (code, said) == (0, "replaced log.yaml\n")
    code, said, _ = run(capsys, "datasets", "infer", "log.csv", "--json")
    assert json.loads(said)["spec"] == printed


def test_infer_mistakes_are_one_line(tmp_path: Path, capsys):
    code, _, error = run(capsys, "datasets", "infer", tmp_path / "none.csv")
    assert (code, error) == (2, f"error: no file {tmp_path / 'none.csv'}\n")
    code, _, error = run(capsys, "datasets", "infer")
    assert (code, error.startswith("error: datasets infer: which file?")) == (2, True)
