"""One and two Flink task slots over the same generated log in Criteo's layout.

    CTR_FLINK_JARS=.venv/flink-jars python -m tests.benchmarks.flink_slots --rows 2000000

Every TaskManager and its Python worker have one core to themselves (`taskset`), as on machines of
one core each; JobManager, job server and the command itself run on any. A tiny log shows the fixed
cost: starting workers, submitting two jobs, the graph. Writes `results/flink_slots.md`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from preprocessing.beam_options import beam_options
from preprocessing.job import prepare
from preprocessing.schema import DatasetSpec
from tests.benchmarks.measure import machine, write_results
from tests.benchmarks.prepare_criteo import generate, spec
from tests.flink.cluster import JARS, Cluster

_TINY_ROWS = 20_000
_BLOCK_BYTES = 4 << 20


def log_of(folder: Path, rows: int) -> Path:
    """The generated log, made once."""
    path = folder / f"{rows}.tsv"
    if not path.exists():
        generate(path.with_suffix(".part"), rows)
        path.with_suffix(".part").rename(path)
    return path


def worker_mb(groups: set[int]) -> int:
    """Peak memory of the largest Python process in these process groups."""
    peaks = [0]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            group = int(status.with_name("stat").read_text().rpartition(")")[2].split()[2])
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):  # it has ended
            continue
        if group in groups and lines["Name"].strip().startswith("python"):
            peaks.append(int(lines["VmHWM"].split()[0]) >> 10)
    return max(peaks)


def measure(log: Path, rows: int, slots: int, folder: Path) -> dict[str, Any]:
    """One preparation on a new cluster of so many TaskManagers of one slot."""
    document = spec(log)
    document["source"]["block_bytes"] = _BLOCK_BYTES  # type: ignore[index]
    with Cluster(
        Path(os.environ[JARS]).absolute(), folder / "flink", slots, one_core_each=True
    ) as c:
        groups = {pid for name, pid in c.pids().items() if name.startswith("taskmanager")}
        times: dict[str, list[float]] = {}
        memory = 0

        def note(stage: str, _done: int, _total: int) -> None:
            nonlocal memory
            times.setdefault(stage, []).append(time.perf_counter())
            memory = max(memory, worker_mb(groups))

        options = beam_options("FlinkRunner", c.words[1:])
        start = time.perf_counter()
        found = prepare(
            DatasetSpec.parse(document),
            folder / "out",
            log.parent,
            beam_options=options,
            progress=note,
        )
        wall = time.perf_counter() - start
        jobs = c.job_seconds()
    count, write = times["count"], times["write"]
    seconds = {
        "count": count[-1] - count[0],
        "graph": write[0] - count[-1],
        "write": write[-1] - write[0],
    }
    sending = seconds["count"] + seconds["write"] - sum(jobs)
    return {
        "rows": rows,
        "slots": slots,
        "wall s": round(wall, 1),
        **{f"{stage} s": round(spent, 1) for stage, spent in seconds.items()},
        "check, publish s": round(wall - sum(seconds.values()), 1),
        "of these: sending jobs s": round(sending, 1),
        "largest worker MB": memory,
        "content": found.manifest["content_hash"][:16],
    }


def main() -> None:
    """Measures 1 slot tiny, 1 slot, 2 slots tiny, 2 slots; writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--logs", type=Path, help="keep the generated logs here for the next run")
    options = parser.parse_args()
    where = machine()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        logs = options.logs or Path(scratch)
        for rows in (_TINY_ROWS, options.rows):
            log = log_of(logs, rows)
            for slots in (1, 2):
                folder = Path(scratch) / f"{rows}-{slots}"
                folder.mkdir()
                found.append(measure(log, rows, slots, folder))
                print(found[-1], flush=True)
    tiny, large = found[:2], found[2:]
    over = [large[i]["wall s"] - tiny[i]["wall s"] for i in (0, 1)]
    write_results(
        "flink_slots",
        found,
        command=f"CTR_FLINK_JARS=.venv/flink-jars python -m tests.benchmarks.flink_slots"
        f" --rows {options.rows}",
        note=f"Generated rows in Criteo's layout, 267 bytes each; {_BLOCK_BYTES >> 20} MiB a block."
        " Flink 1.19, one JobManager; a slot is a TaskManager and its Python worker on one core of"
        f" its own. Wall clock, 1 slot : 2 slots = {large[0]['wall s'] / large[1]['wall s']:.2f};"
        f" beyond the fixed cost that the small log shows, {over[0] / over[1]:.2f}"
        f" ({options.rows / over[0]:,.0f} and {options.rows / over[1]:,.0f} rows/s).",
        where=where,
    )


if __name__ == "__main__":
    main()
