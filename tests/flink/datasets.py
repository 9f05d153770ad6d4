"""Presets, where shared data has their files, and `prepare` run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from preprocessing import presets
from tests.support.java_processes import ROOT

_CRITEO = {"train.txt": "criteo/criteo_head_10k.txt"}
_AVAZU = {"train.csv": "avazu/avazu_random_23k.csv"}
_FILMS = {"users.dat": "ml-1m/users.dat", "movies.dat": "ml-1m/movies.dat"}
_SAMPLE = "ml-1m/ratings.sample-100k.dat"
# Preset -> name its spec wants: file in shared data, or the folder that has all names.
PRESETS: dict[str, dict[str, str] | str] = {
    "avazu": _AVAZU,
    "avazu-without-id": _AVAZU,
    "criteo": _CRITEO,
    "criteo-bucket": _CRITEO,
    "criteo-interhat": _CRITEO,
    "frappe": "frappe/raw",
    "frappe-libfm": "frappe",
    "movielens-1m": {"ratings.dat": _SAMPLE, **_FILMS},
    "movielens-1m-ids": {"ratings.dat": _SAMPLE, **_FILMS},
    "movielens-1m-sample": "ml-1m",
    "movielens-1m-untimed": "ml-1m",
    "movielens-tag": "ml-tag/raw",
    "movielens-tag-libfm": "ml-tag",
}


def data_of(preset: str, shared: Path, scratch: Path) -> Path:
    """A folder with a preset's files under the publisher's names."""
    files = PRESETS[preset]
    if isinstance(files, str):
        return shared / files
    folder = scratch / f"data-{preset}"
    folder.mkdir()
    for name, source in files.items():
        (folder / name).symlink_to(shared / source)
    return folder


def in_blocks(preset: str, block_bytes: int, scratch: Path) -> Path:
    """A preset's spec cut into smaller blocks, so that small data has work for several workers."""
    document = presets.spec(preset).resolved()
    document["source"]["block_bytes"] = block_bytes
    path = scratch / f"{preset}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """How `prepare` ended."""

    code: int
    seconds: float
    output: str
    errors: str

    @property
    def result(self) -> dict[str, Any]:
        """What `--json` printed. Fails with the command's error output if it did not succeed."""
        assert self.code == 0, self.errors[-3000:]
        return json.loads(self.output)


class Prepare:
    """`python -m pipeline prepare` in a process of its own."""

    def __init__(self, spec: str | Path, data: Path, output: Path, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "pipeline", "prepare", str(spec), "--json"]
        command += ["--data", str(data), "--output", str(output), *options]
        self._start = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, timeout: float = 1800) -> Done:
        """Waits for the command; kills it if it takes longer than `timeout` seconds."""
        try:
            output, errors = self.process.communicate(timeout=timeout)
        finally:
            self.process.kill()
        return Done(self.process.returncode, time.monotonic() - self._start, output, errors)


def prepare(spec: str | Path, data: Path, output: Path, options: Sequence[str] = ()) -> Done:
    """Runs the command to its end."""
    return Prepare(spec, data, output, options).end()
