"""The README's worked example, pasted and run as a new user would."""

import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def worked_example() -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own log")[1]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section.split("\n## ")[0], re.DOTALL))


@pytest.mark.slow
def test_the_worked_example_runs_as_it_stands(tmp_path: Path) -> None:
    script = worked_example()
    for port in ("8500", "8501"):
        assert port in script
        script = script.replace(port, str(free_port()))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = tmp_path / "output.txt"
    with log.open("w", encoding="utf-8") as output:
        # A session of its own, so that a server left behind by a failure goes with its script.
        script_process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = script_process.wait(timeout=600)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(script_process.pid, signal.SIGKILL)
    printed = log.read_text(encoding="utf-8")
    assert code == 0, printed[-5000:]
    assert '"probability"' in printed
    with (tmp_path / "data/shop/scores.csv").open(encoding="utf-8") as file:
        scores = [float(row["probability"]) for row in csv.DictReader(file)]
    assert len(scores) == 20_000
    assert 0.05 < sum(scores) / len(scores) < 0.5


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    mentioned = set(re.findall(r"python -m pipeline ([a-z]+)", text))
    mentioned |= {
        name
        for row in re.findall(r"^\| (`[a-z]+`(?:, `[a-z]+`)*) \|", text, re.MULTILINE)
        for name in re.findall(r"`([a-z]+)`", row)
    }
    listed = subprocess.run(
        [sys.executable, "-m", "pipeline", "--help"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    known = set(re.findall(r"^    ([a-z]+)(?:  |$)", listed, re.MULTILINE))
    assert {"prepare", "train", "serve"} <= mentioned
    assert mentioned <= known


def test_every_make_target_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    mentioned = set(re.findall(r"`make ([a-z-]+)`", text))
    assert {"test", "demo", "check"} <= mentioned
    assert mentioned <= targets
