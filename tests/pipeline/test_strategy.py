"""Several devices and several workers give the loss of one."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Replicas draw dropout masks of their own, so losses only compare without it.
# 1280 rows are ten whole batches: replicas leave a smaller last one out.
# Validation measures the averages, the training loss the weights.
COMMON = ["--model", "fm", "--dropout", "0", "--rows", "1280", "--average"]


def start(output, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.train_worker", str(output), *COMMON, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*workers):
    try:
        for worker in workers:
            _, error = worker.communicate(timeout=400)
            assert worker.returncode == 0, error[-3000:]
    finally:
        for worker in workers:
            worker.kill()


def losses(output):
    with (output / "history.csv").open() as handle:
        return [
            [float(row[name]) for name in ("loss", "val_logloss", "val_auc")]
            for row in csv.DictReader(handle)
        ]


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module", params=["sparse", pytest.param("dense", marks=pytest.mark.slow)])
def one_worker(request, tmp_path_factory):
    """The tables' update, and the losses of one device."""
    output = tmp_path_factory.mktemp("one") / "run"
    finish(start(output, "--tables", request.param))
    return request.param, losses(output)


def test_two_logical_devices(tmp_path, one_worker):
    tables, expected = one_worker
    finish(start(tmp_path / "run", "--strategy", "mirrored", "--tables", tables))
    assert len(losses(tmp_path / "run")) == len(expected)
    for found, wanted in zip(losses(tmp_path / "run"), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)


def two_workers(output, *arguments):
    """Two processes that train together."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    workers = [
        start(
            output,
            "--strategy",
            "multi_worker",
            *arguments,
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]
    finish(*workers)


def test_two_workers(tmp_path, one_worker):
    tables, expected = one_worker
    two_workers(tmp_path / "run", "--tables", tables)
    for found, wanted in zip(losses(tmp_path / "run"), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_two_workers_that_read_files_of_their_own(tmp_path, many_files):
    """Other batches than one worker's, the same learning."""
    start_alone = start(tmp_path / "one", "--prepared", str(many_files.path))
    finish(start_alone)
    two_workers(tmp_path / "two", "--prepared", str(many_files.path))
    (*_, (_, alone, _)), (*_, (_, together, auc)) = (losses(tmp_path / n) for n in ("one", "two"))
    assert together == pytest.approx(alone, abs=0.03)
    assert auc > 0.7
