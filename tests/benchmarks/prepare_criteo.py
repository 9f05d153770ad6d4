"""How fast `prepare` is on rows laid out like Criteo's, and one plain polars pass beside it.

    python -m tests.benchmarks.prepare_criteo --rows 20000 400000 4000000 --workers 1 2 --polars

Every run is a process of its own on generated rows (seeded; 13 numbers, 26 categories of which
six have hundreds of thousands of values, some missing). Reported: wall and CPU seconds of
`prepare` without imports, import seconds, memory of all its processes, bytes written; and
from the smallest size and each larger one the rows per second beyond the fixed cost. `--write`
keeps the table in results/prepare_criteo.md. `--same-values` shows memory apart from the list of
values, which grows with the log. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# fmt: off
CARDINALITIES = (
    1460, 583, 1_000_000, 200_000, 305, 24, 12_517, 633, 3, 93_145, 5_683, 800_000, 3_194, 27,
    14_992, 500_000, 10, 5_652, 2_173, 4, 700_000, 18, 15, 286_181, 105, 142_572,
)
# fmt: on
_CHUNK = 50_000
_NOTE = (
    "Criteo-layout rows (13 numbers, 26 categories, counts below 10 infrequent), each run in a"
    " process of its own, imports not counted in `wall_s`; `peak_mb`: resident memory of all its"
    " processes together, sampled five times a second (imports alone take 530)."
    " `fixed_s` and `rows_per_s`: the line through this size and the smallest one. The polars pass"
    " only counts, looks up and writes Parquet: no splits, checks, statistics, graph or records."
)


def generate(path: Path, rows: int, seed: int = 0) -> None:
    """Writes `rows` rows: label, 13 numbers (a fifth missing), 26 hexadecimal categories."""
    draw = np.random.default_rng(seed)
    with path.open("w", encoding="ascii") as file:
        for start in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - start)
            columns = [draw.integers(0, 2, count).astype(str)]
            for i in range(13):
                column = draw.exponential(30 * (i + 1), count).astype(int).astype(str)
                column[draw.random(count) < 0.2] = ""
                columns.append(column)
            for i, size in enumerate(CARDINALITIES):
                value = np.minimum((size * draw.random(count) ** 3).astype(np.int64), size - 1)
                code = (value * 2_654_435_761 + i * 97) % (1 << 32)
                column = np.array([f"{c:08x}" for c in code.tolist()])
                column[draw.random(count) < (0.1 if i % 3 == 0 else 0)] = ""
                columns.append(column)
            lines = zip(*(c.tolist() for c in columns), strict=True)
            file.write("\n".join(map("\t".join, lines)) + "\n")


def repeat(short: Path, long: Path, times: int) -> None:
    """Writes a log's rows several times over: more rows, but no new values."""
    rows = short.read_bytes()
    with long.open("wb") as file:
        for _ in range(times):
            file.write(rows)


def spec(path: Path) -> dict[str, object]:
    """The Criteo spec: counts below 10 are infrequent, numbers as (ln x)^2."""
    numbers = [f"I{i}" for i in range(1, 14)]
    categories = [f"C{i}" for i in range(1, 27)]
    return {
        "name": "criteo-like",
        "source": {
            "format": "tsv",
            "files": [path.name],
            "header": False,
            "columns": ["label", *numbers, *categories],
        },
        "label": {"column": "label"},
        "min_count": 10,
        "keep_raw": [],
        "fields": [{"name": n, "kind": "numeric", "transform": "log_squared"} for n in numbers]
        + [{"name": c, "kind": "categorical"} for c in categories],
    }


def run_once(path: Path, workers: int) -> dict[str, Any]:
    """One preparation in this process."""
    start = time.perf_counter()
    from preprocessing.job import prepare
    from preprocessing.schema import DatasetSpec

    imported = time.perf_counter() - start
    stages: dict[str, list[float]] = {}
    start, cpu = time.perf_counter(), _cpu_seconds()

    def note(stage: str, _done: int, _total: int) -> None:
        stages.setdefault(stage, []).append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        out = Path(folder) / "out"
        found = prepare(
            DatasetSpec.parse(spec(path)), out, path.parent, workers=workers, progress=note
        )
        wall, used = time.perf_counter() - start, _cpu_seconds() - cpu
        written = sum(p.stat().st_size for p in out.glob("*.gz"))
    return {
        "rows": found.manifest["counters"]["rows_out"],
        "by": f"prepare, workers={workers}",
        "wall_s": round(wall, 2),
        "cpu_s": round(used, 2),
        **{f"{name}_s": round(times[-1] - times[0], 2) for name, times in stages.items()},
        "import_s": round(imported, 2),
        "written_mb": written >> 20,
    }


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def polars_pass(path: Path) -> dict[str, Any]:
    """The physical reference: count, threshold, map and write one Parquet file with polars."""
    import polars as pl

    start, cpu = time.perf_counter(), _cpu_seconds()
    columns = list(spec(path)["source"]["columns"])  # type: ignore[index, call-overload]
    schema = {c: pl.String if c[0] == "C" else pl.Float32 for c in columns}
    frame = pl.read_csv(path, separator="\t", has_header=False, schema=schema)
    mapped = []
    for column in (c for c in columns if c[0] == "C"):
        counts = frame[column].value_counts().filter(pl.col("count") >= 10)
        keys = counts.with_row_index("id").select(pl.col(column), pl.col("id"))
        mapped.append(frame.select(column).join(keys, on=column, how="left")["id"].alias(column))
    numbers = frame.select(pl.col("^I.*$")).select(
        pl.when(pl.all() > 2).then(pl.all().log() ** 2).otherwise(pl.all())
    )
    out = path.with_suffix(".parquet")
    numbers.hstack([frame["label"], *mapped]).write_parquet(out)
    written = out.stat().st_size
    out.unlink()
    return {
        "rows": len(frame),
        "by": "one polars pass",
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(_cpu_seconds() - cpu, 2),
        "written_mb": written >> 20,
    }


def measure(path: Path, arguments: list[str]) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.prepare_criteo", "--one", str(path)]
    run = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    peak = 0
    while run.poll() is None:
        peak = max(peak, _resident_bytes(run.pid))
        time.sleep(0.2)
    if run.returncode:
        raise SystemExit(f"the run on {path.name} with {' '.join(arguments)} failed")
    assert run.stdout
    return {**json.loads(run.stdout.read().splitlines()[-1]), "peak_mb": peak >> 20}


def _resident_bytes(root: int) -> int:
    """Resident memory of a process and its descendants (Linux)."""
    parents, pages = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            facts = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)], pages[int(path.parent.name)] = int(facts[1]), facts[21]
    family = {root}
    while more := {p for p, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(int(pages.get(p, 0)) for p in family) * os.sysconf("SC_PAGE_SIZE")


def with_rates(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds what each way costs before the first row, and its rows per second after that."""
    rated = []
    for result in results:
        first = next(r for r in results if r["by"] == result["by"])
        fixed: float | None = None
        rate: float | None = None
        if result["rows"] > first["rows"]:
            slope = (result["wall_s"] - first["wall_s"]) / (result["rows"] - first["rows"])
            fixed, rate = first["wall_s"] - slope * first["rows"], 1 / slope
        rated.append({**result, "fixed_s": fixed, "rows_per_s": rate})
    return rated


def table(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table; a value that a way does not have is left out."""
    columns = list(dict.fromkeys(name for result in results for name in result))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for result in results:
        cells = [result.get(name) for name in columns]
        lines.append("| " + " | ".join(map(_shown, cells)) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
    return value or ""


def main() -> None:
    """Runs all sizes, the ways in turn for each, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 400_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--polars", action="store_true")
    parser.add_argument(
        "--same-values", action="store_true", help="larger logs repeat the rows of the smallest"
    )
    parser.add_argument("--logs", type=Path, help="keep the generated logs here for the next run")
    parser.add_argument("--write", action="store_true", help="keep the table in results/")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one and options.polars:
        print(json.dumps(polars_pass(options.one)))
        return
    if options.one:
        print(json.dumps(run_once(options.one, options.workers[0])))
        return
    # Not above: a run that times its own imports must not find TensorFlow imported.
    from tests.benchmarks.measure import RESULTS, machine

    where = machine()
    ways = [["--workers", str(count)] for count in options.workers]
    ways += [["--polars"]] if options.polars else []
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.logs or Path(scratch)
        paths = [folder / f"{rows}.tsv" for rows in sorted(options.rows)]
        for path in paths:
            if path.exists():
                continue
            if options.same_values and path != paths[0]:
                repeat(paths[0], path, int(path.stem) // int(paths[0].stem))
            else:
                generate(path, int(path.stem))
        for path in paths:
            for way in ways:
                results.append(measure(path, way))
                print(json.dumps(results[-1]), flush=True)
    shown = table(with_rates(results))
    print(shown)
    if options.write:
        (RESULTS / "prepare_criteo.md").write_text(
            f"# prepare_criteo\n\n{_NOTE}\n\nMachine: {where}\n\nCommand: `python -m"
            f" tests.benchmarks.prepare_criteo {' '.join(sys.argv[1:])}`\n\n{shown}"
        )


if __name__ == "__main__":
    main()
