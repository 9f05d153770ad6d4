"""`train --resume` as one types it, after a kill from outside, with row updates and XLA."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.rundir import Run

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "model.name=afm",
    "model.dropout=0.3",
    "optimizer.name=adam",
    "optimizer.tables=sparse",
    "training.jit_compile=true",
    "training.batch_size=96",
    "training.epochs=6",
    "training.checkpoint.every_steps=4",
    "training.early_stopping=null",
    "calibration.method=none",
)


def train(published, output: Path, *flags: str, exact: bool = False) -> subprocess.Popen:
    settings = [*SETTINGS, f"output={output}", f"optimizer.exact={str(exact).lower()}"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", str(published.folder / "run.yaml"), *flags]
        + [argument for setting in settings for argument in ("--set", setting)],
        cwd=published.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def finished(process: subprocess.Popen) -> str:
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
    return error


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
def test_a_killed_command_resumed_equals_one_that_was_not(published, tmp_path, exact):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(train(published, whole, exact=exact))
    killed = train(published, cut, exact=exact)
    # 15 steps an epoch: killed in the midst of the second or a later one.
    while killed.poll() is None and not list(cut.glob("checkpoints/step-*[2-9][0-9].npz")):
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    assert not (cut / "model.keras").exists()
    assert "resumed at step" in finished(train(published, cut, "--resume", exact=exact))
    for one, other in zip(*(Run.load(at).load_model().weights for at in (whole, cut)), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
