"""What a run cost: wall and CPU seconds over all its sittings, and on what."""

import importlib
import json
import os
import platform
import time
from pathlib import Path

import keras

from pipeline.files import write_json


class Cost(keras.callbacks.Callback):
    """Adds up wall and CPU seconds in `cost.json`, epoch by epoch, across resumes.

    CPU seconds are those of all threads: on a shared machine they say what wall seconds do not.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._mark = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.add()

    def add(self) -> dict[str, float]:
        """Write what has passed since the last call on top; returns the sums."""
        now = time.perf_counter(), time.process_time()
        before = read_cost(self.path)
        sums = {
            "seconds": round(before["seconds"] + now[0] - self._mark[0], 3),
            "cpu_seconds": round(before["cpu_seconds"] + now[1] - self._mark[1], 3),
        }
        write_json(self.path, sums)
        self._mark = now
        return sums


def read_cost(path: Path) -> dict[str, float]:
    """The sums so far; zeros where there is no file."""
    if not path.is_file():
        return {"seconds": 0.0, "cpu_seconds": 0.0}
    return json.loads(path.read_text(encoding="utf-8"))


def machine() -> str:
    """Processor and cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = found[0] if found else name
    return f"{name}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Keras and the backend it runs on."""
    names = (keras.config.backend(), "keras")
    return {name: importlib.import_module(name).__version__ for name in names}
