"""`datasets infer` and `inspect`, as a user types them."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

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


def test_prepare_tells_at_once_that_no_job_server_listens(tmp_path: Path, capsys):
    words = ["prepare", "criteo", "--output", tmp_path / "out", "--runner", "FlinkRunner"]
    code, said, error = run(capsys, *words, "--job_endpoint=127.0.0.1:1")
    assert (code, said) == (2, "")
    assert error.startswith("error: --job_endpoint=127.0.0.1:1: no job server answers there")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def days(tmp_path_factory) -> Path:
    """Two prepared days: the same users and cities, but fewer clicks on the second."""
    folder = tmp_path_factory.mktemp("days")
    lines = LOG.replace("c3", "<b>&").splitlines()
    fewer = [lines[0], *(f"{int(i % 10 < 3)}{line[1:]}" for i, line in enumerate(lines[1:]))]
    for day, log in (("monday", lines), ("tuesday", fewer)):
        (folder / f"{day}.csv").write_text("\n".join(log))
        (folder / f"{day}.yaml").write_text(
            f"name: log\nsource: {{files: [{day}.csv]}}\nlabel: {{column: clicked}}\n"
            "fields:\n  - {name: user, kind: categorical}\n  - {name: city, kind: categorical}\n"
        )
        arguments = ["prepare", folder / f"{day}.yaml", "--output", folder / day]
        assert main([str(argument) for argument in arguments]) == 0
    return folder


def test_append_grows_the_dataset_and_can_keep_its_ids(days: Path, tmp_path: Path, capsys):
    spec, out = days / "monday.yaml", tmp_path / "out"
    shutil.copytree(days / "monday", out)
    earlier = json.loads((out / "manifest.json").read_text())
    tokens = (out / "vocabulary.txt").read_text()
    words = ["prepare", spec, "--output", out, "--append", "tuesday.csv", "--keep-ids", "--json"]
    code, said, error = run(capsys, *words)
    assert code == 0, error
    assert json.loads(said)["counters"]["rows_in"] == 2 * earlier["counters"]["rows_in"]
    assert (out / "vocabulary.txt").read_text().startswith(tokens)
    code, _, error = run(capsys, "prepare", spec, "--output", out, "--append", "tuesday.csv")
    assert (code, "no file that the dataset does not have already" in error) == (2, True)
    code, _, error = run(capsys, "prepare", spec, "--output", out, "--keep-ids")
    assert (code, error) == (2, "error: --keep-ids goes with --append FILE\n")
    code, _, error = run(capsys, "prepare", "criteo", "--output", out, "--append", "tuesday.csv")
    assert (code, error) == (2, f"error: --append: {out} holds 'log', not 'criteo'\n")


def test_inspect_prints_a_table_and_writes_one_page_with_its_plots_inside(days: Path, capsys):
    code, said, _ = run(capsys, "inspect", days / "monday")
    assert code == 0
    assert all(word in said for word in ("user", "city", "categorical", "missing", "infrequent"))
    folder = days / "monday" / "report"
    images = sorted(path.name for path in folder.glob("*.png"))
    assert images == ["00-user.png", "01-city.png"]
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in images)
    page = (folder / "report.html").read_text()
    assert f"plots: {folder / 'report.html'}" in said.replace("\n", "")
    assert re.findall(r'src="([^"]{21})', page) == ["data:image/png;base64"] * 2
    assert "href" not in page
    seen = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, _: seen.append(tag)
    reader.feed(page)
    assert seen.count("img") == 2
    assert "b" not in seen, "a value of the log became markup"


def test_inspect_json_holds_the_statistics(days: Path, tmp_path: Path, capsys):
    code, said, _ = run(capsys, "inspect", days / "monday", "--json", "--output", tmp_path)
    assert code == 0
    found = json.loads(said)
    assert found["stats"] == json.loads((days / "monday" / "stats.json").read_text())
    assert [f["name"] for f in found["stats"]["fields"]] == ["user", "city"]
    assert found["report"] == str(tmp_path / "report.html")


def test_inspect_exits_3_on_an_anomaly_and_names_it_on_one_line(days: Path, tmp_path, capsys):
    base = ["--baseline", days / "monday", "--output", tmp_path]
    code, said, _ = run(capsys, "inspect", days / "monday", *base)
    assert (code, "anomaly" in said) == (0, False)
    code, said, _ = run(capsys, "inspect", days / "tuesday", *base)
    assert code == 3
    lines = [line for line in said.splitlines() if line.startswith("anomaly")]
    assert lines == [
        "anomaly: label: shift of the rate 0.2, threshold 0.05 (0.5000 -> 0.3000)",
    ]
    assert "ANOMALY" in (tmp_path / "report.html").read_text()
    code, said, _ = run(capsys, "inspect", days / "tuesday", *base, "--json")
    assert code == 3
    assert [f["anomaly"] for f in json.loads(said)["comparison"]].count(True) == 1


def test_inspect_mistakes_are_one_line(days: Path, tmp_path: Path, capsys):
    code, _, error = run(capsys, "inspect", tmp_path)
    assert (code, "no prepared dataset here" in error) == (2, True)
    old = tmp_path / "old"
    shutil.copytree(days / "monday", old)
    (old / "stats.json").unlink()
    code, _, error = run(capsys, "inspect", old)
    assert (code, error) == (2, f"error: {old}: no stats.json: prepare it again\n")
