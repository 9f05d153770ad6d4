"""How fast `prepare` is on rows laid out like Criteo's, beside one plain polars pass.

    python -m tests.benchmarks.prepare_criteo --rows 100000 400000 [--workers 2] [--polars]

Every size runs in a process of its own on generated rows (seeded; 13 numbers, 26 categories of
which six have hundreds of thousands of values, some missing). Reported: wall and CPU seconds of
`prepare` without imports, import seconds, peak memory, bytes written; then the fixed cost and the
rows per second beyond it, from the smallest and largest size. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# fmt: off
CARDINALITIES = (
    1460, 583, 1_000_000, 200_000, 305, 24, 12_517, 633, 3, 93_145, 5_683, 800_000, 3_194, 27,
    14_992, 500_000, 10, 5_652, 2_173, 4, 700_000, 18, 15, 286_181, 105, 142_572,
)
# fmt: on
_CHUNK = 50_000


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


def run_once(path: Path, workers: int) -> dict[str, float]:
    """One preparation in this process."""
    start = time.perf_counter()
    from preprocessing.job import prepare
    from preprocessing.schema import DatasetSpec

    imported = time.perf_counter() - start
    stages: dict[str, list[float]] = {}
    start, cpu = time.perf_counter(), time.process_time()

    def note(stage: str, _done: int, _total: int) -> None:
        stages.setdefault(stage, []).append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        out = Path(folder) / "out"
        found = prepare(
            DatasetSpec.parse(spec(path)), out, path.parent, workers=workers, progress=note
        )
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        written = sum(p.stat().st_size for p in out.glob("*.gz"))
    return {
        "rows": found.manifest["counters"]["rows_out"],
        "wall_s": round(wall, 2),
        "cpu_s": round(used, 2),
        "import_s": round(imported, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "written_mb": written >> 20,
        **{f"{name}_s": round(times[-1] - times[0], 2) for name, times in stages.items()},
    }


def polars_pass(path: Path) -> dict[str, float]:
    """The physical reference: count, threshold, map and write one Parquet file with polars."""
    import polars as pl

    start = time.perf_counter()
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
    out.unlink()
    return {"rows": len(frame), "wall_s": round(time.perf_counter() - start, 2)}


def main() -> None:
    """Runs all sizes and prints one JSON line each, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--polars", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_once(options.one, options.workers)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in sorted(options.rows):
            path = Path(folder) / f"{rows}.tsv"
            generate(path, rows)
            command = [sys.executable, "-m", "tests.benchmarks.prepare_criteo"]
            command += ["--one", str(path), "--workers", str(options.workers)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(results[-1]), flush=True)
            if options.polars:
                print("polars", json.dumps(polars_pass(path)), flush=True)
            path.unlink()
    first, last = results[0], results[-1]
    if last["rows"] > first["rows"]:
        for kind in ("wall_s", "cpu_s"):
            slope = (last[kind] - first[kind]) / (last["rows"] - first["rows"])
            fixed = first[kind] - slope * first["rows"]
            print(f"{kind}: {fixed:.1f} s fixed + {1 / slope:,.0f} rows/s")


if __name__ == "__main__":
    main()
