"""One and two Flink task slots over the same generated log in Criteo's layout.

    CTR_FLINK_JARS=.venv/flink-jars python -m tests.benchmarks.flink_slots --rows 2000000

Every TaskManager and its Python worker have one core to themselves (`taskset`), as on machines of
one core each; JobManager, job server and the command itself run on any. A tiny log is prepared
first, while the cluster's JVMs still load their classes, and again to show the fixed cost on a
cluster that has run before: starting workers, submitting two jobs, the graph. Writes
`results/flink_slots.md`, in which of each run the fastest of all calls with these rows stands:
what shares the machine only slows a run. One slot and two take turns for the same reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from preprocessing.beam_options import beam_options
from preprocessing.job import prepare
from preprocessing.schema import DatasetSpec
from tests.benchmarks.measure import RESULTS, machine, write_results
from tests.benchmarks.prepare_criteo import generate, spec
from tests.flink.cluster import JARS, Cluster

_TINY_ROWS = 20_000
_RUNS = ("first", "small", "large")
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
            held = int(lines["VmHWM"].split()[0]) >> 10
        except (OSError, ValueError, KeyError):  # it has ended, or is about to
            continue
        if group in groups and lines["Name"].strip().startswith("python"):
            peaks.append(held)
    return max(peaks)


def measure(log: Path, cluster: Cluster, output: Path) -> dict[str, Any]:
    """One preparation; seconds in all and by stage."""
    document = spec(log)
    document["source"]["block_bytes"] = _BLOCK_BYTES  # type: ignore[index]
    groups = {pid for name, pid in cluster.pids().items() if name.startswith("taskmanager")}
    times: dict[str, list[float]] = {}
    memory = 0

    def note(stage: str, _done: int, _total: int) -> None:
        nonlocal memory
        times.setdefault(stage, []).append(time.perf_counter())
        memory = max(memory, worker_mb(groups))

    options = beam_options("FlinkRunner", cluster.words[1:])
    start = time.perf_counter()
    found = prepare(
        DatasetSpec.parse(document), output, log.parent, beam_options=options, progress=note
    )
    wall = time.perf_counter() - start
    count, write = times["count"], times["write"]
    seconds = {
        "count": count[-1] - count[0],
        "graph": write[0] - count[-1],
        "write": write[-1] - write[0],
    }
    submitting = seconds["count"] + seconds["write"] - sum(cluster.job_seconds()[-2:])
    return {
        "wall s": round(wall, 1),
        **{f"{stage} s": round(spent, 1) for stage, spent in seconds.items()},
        "check, publish s": round(wall - sum(seconds.values()), 1),
        "of these: submitting jobs s": round(submitting, 1),
        "largest worker MB": memory,
        "content": found.manifest["content_hash"][:16],
    }


def shares(record: dict[str, Any]) -> str:
    """Where the time of a run goes, in parts of a hundred."""
    stages = ("count s", "graph s", "write s", "check, publish s")
    return ", ".join(f"{s.removesuffix(' s')} {record[s] / record['wall s']:.0%}" for s in stages)


Runs = dict[tuple[int, str], dict[str, Any]]


def fastest(found: Runs) -> Runs:
    """Of each run the faster one: just measured, or in the committed table."""
    best = dict(found)
    path = RESULTS / "flink_slots.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        mine = found.get((record["slots"], record["run"]))
        if mine and mine["rows"] == record["rows"] and mine["wall s"] > record["wall s"]:
            best[record["slots"], record["run"]] = record
    return best


def write(found: Runs, rows: int, where: str) -> None:
    """Writes the table."""
    one, two = (found[slots, "large"] for slots in (1, 2))
    write_results(
        "flink_slots",
        list(found.values()),
        command=f"CTR_FLINK_JARS=.venv/flink-jars python -m tests.benchmarks.flink_slots"
        f" --rows {rows}",
        note=f"Generated rows in Criteo's layout, 267 bytes each; {_BLOCK_BYTES >> 20} MiB a block."
        " Flink 1.19, one JobManager; a slot is a TaskManager and its Python worker on one core of"
        " its own. `first` is the first run on a new cluster, `small` and `large` come after it;"
        " each is the fastest of the calls made. Of the large log: wall clock, 1 slot : 2 slots ="
        f" {one['wall s'] / two['wall s']:.2f} ({rows / one['wall s']:,.0f} and"
        f" {rows / two['wall s']:,.0f} rows/s); count {one['count s'] / two['count s']:.2f}, write"
        f" {one['write s'] / two['write s']:.2f}, the start of each stage included. Share of the"
        f" time with one slot: {shares(one)}; with two: {shares(two)}.",
        where=where,
    )


def main() -> None:
    """Measures one slot and two in turn, on a cluster each; writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--logs", type=Path, help="keep the generated logs here for the next run")
    options = parser.parse_args()
    where = machine()
    jars = Path(os.environ[JARS]).absolute()
    found: Runs = {}
    with tempfile.TemporaryDirectory() as scratch:
        logs = options.logs or Path(scratch)
        sizes = (_TINY_ROWS, _TINY_ROWS, options.rows)
        files = [log_of(logs, rows) for rows in sizes]
        homes = {slots: Path(scratch) / f"flink-{slots}" for slots in (1, 2)}
        with contextlib.ExitStack() as running:
            clusters = {
                slots: running.enter_context(Cluster(jars, home, slots, one_core_each=True))
                for slots, home in homes.items()
            }
            for run, rows, log in zip(_RUNS, sizes, files, strict=True):
                for slots, cluster in clusters.items():
                    record = measure(log, cluster, homes[slots] / run)
                    found[slots, run] = {"slots": slots, "run": run, "rows": rows, **record}
                    print(found[slots, run], flush=True)
    write(fastest(found), options.rows, where)


if __name__ == "__main__":
    main()
