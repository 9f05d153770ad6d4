"""Time of a training step over the size of the table: flat, where dense updates grow with it.

    python -m tests.benchmarks.training_vocabulary --rows 10000,1000000,10000000

The tables are trained in turn within one process, row-sparse Adagrad in XLA, through `fit`.
"""

import argparse
import sys

import models
from models.optimizers import SparseAdagrad
from tests.benchmarks import measure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fm")
    parser.add_argument("--rows", default="10000,1000000,10000000", help="comma-separated")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ids", default="uniform", choices=["uniform", "skewed"])
    args = parser.parse_args()
    where, runs = measure.machine(), {}
    for rows in (int(size) for size in args.rows.split(",")):
        features = measure.one_value_features(rows, args.fields)
        model = models.build(args.model, features, embedding_dim=args.dim)
        measure.compiled(model, SparseAdagrad(0.01), steps_per_execution=16, jit_compile=True)
        skewed = args.ids == "skewed"
        data = measure.batches(rows, args.fields, args.batch, args.steps, skewed)
        runs[rows] = lambda model=model, data=data: measure.fit_seconds(model, data)
    times = measure.interleaved(runs, args.rounds)
    first = times[min(runs)][0]
    table = [
        {
            "model": args.model,
            "batch": args.batch,
            "ids": args.ids,
            "rows": rows,
            "ms/step": 1e3 * wall / args.steps,
            "cpu ms/step": 1e3 * processor / args.steps,
            "examples/s": args.batch * args.steps / wall,
            "times the smallest": wall / first,
        }
        for rows, (wall, processor) in times.items()
    ]
    measure.write_results(
        "training_vocabulary",
        measure.with_earlier("training_vocabulary", table, ("model", "batch", "ids", "rows")),
        command="python -m tests.benchmarks.training_vocabulary --model MODEL --ids IDS",
        note=f"F {args.fields}, D {args.dim}; medians of interleaved runs. Uniform ids are the "
        "worst case: at 10 million rows the table and its accumulators take 1.3 GB and nearly "
        "every row comes from memory, at 10,000 from the cache. Skewed ids are distributed as "
        "those of logs, the k-th most frequent in proportion to 1 / k.",
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
