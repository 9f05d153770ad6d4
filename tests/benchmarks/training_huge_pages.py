"""Training rate of `fit` with and without huge pages, as `pipeline train` asks for them.

    python -m tests.benchmarks.training_huge_pages --models fm,deepfm,afm,autoint --batch 4096

Per model and batch, in turn: a process whose glibc asks for huge pages and one whose does not, as
it reads that when it starts. Row-sparse Adagrad, the step compiled by XLA, on batches in memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from typing import Any

import numpy as np

from tests.benchmarks import measure, training_step

FIGURES = ("ex/s", "cpu ms/step", "page faults/step", "peak MB")


def run(name: str, batch: int, args: argparse.Namespace) -> dict[str, float]:
    """This process's figures: the median of epochs, after one that compiles."""
    model = training_step.ours(name, args, args.rows, True)
    data = measure.batches(args.rows, args.fields, batch, args.steps)
    measure.fit_seconds(model, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    spent = [measure.fit_seconds(model, data) for _ in range(args.epochs)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    wall, processor = np.median(spent, axis=0) / args.steps
    faults = (after.ru_minflt - before) / args.steps / args.epochs
    return dict(
        zip(FIGURES, (batch / wall, 1e3 * processor, faults, after.ru_maxrss / 1024), strict=True)
    )


def in_a_process(name: str, batch: int, huge: int) -> dict[str, float]:
    """The figures of a process of its own, with huge pages (1) or without (0)."""
    tunables = {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={huge}"}
    command = [sys.executable, "-m", "tests.benchmarks.training_huge_pages", *sys.argv[1:]]
    command += ["--run", name, str(batch)]
    done = subprocess.run(
        command, env={**os.environ, **tunables}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure_model(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """One row of the table: medians of the processes."""
    found = [[in_a_process(name, batch, huge) for huge in (0, 1)] for _ in range(rounds)]
    small, huge = (
        {figure: float(np.median([way[i][figure] for way in found])) for figure in FIGURES}
        for i in (0, 1)
    )
    row: dict[str, Any] = {"model": name, "batch": batch}
    for figure in FIGURES:
        row |= {figure: small[figure], f"{figure}, huge pages": huge[figure]}
    return row | {"ratio of ex/s": huge["ex/s"] / small["ex/s"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="fm,deepfm,afm,autoint", help="comma-separated")
    parser.add_argument("--batch", default="512,4096", help="comma-separated batch sizes")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="steps of an epoch")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="processes of either kind")
    parser.add_argument("--steps-per-execution", type=int, default=4)
    parser.add_argument("--run", nargs=2, metavar=("MODEL", "BATCH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        from pipeline import console

        console.start_tensorflow()
        print(json.dumps(run(args.run[0], int(args.run[1]), args)))
        return 0
    where = measure.machine()
    rows = []
    for name in args.models.split(","):
        for batch in (int(size) for size in args.batch.split(",")):
            rows.append(measure_model(name, batch, args.rounds))
            print(rows[-1], file=sys.stderr, flush=True)
    measure.write_results(
        "training_huge_pages",
        rows,
        command=f"python -m tests.benchmarks.training_huge_pages {' '.join(sys.argv[1:])}",
        note=f"F {args.fields}, D {args.dim}, {args.rows:,} rows, ids uniform over the table. "
        "Medians of processes of either kind in turn.",
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
