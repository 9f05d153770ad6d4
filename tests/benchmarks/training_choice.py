"""Updating tables whole against by row, over table size and batch, and plain Keras; all in XLA.

    python -m tests.benchmarks.training_choice --fields 39 --batch 512 --rows 5000,20000

Where whole and by row cross is what `models.optimizers.choice` goes by. Adagrad, for which both
give the same weights. Frappe's table has 5,382 rows and 10 fields; the trainer's batch is 4096.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext

import keras

import models
from models.optimizers import SparseAdagrad
from tests.benchmarks import measure
from tests.benchmarks.plain_keras import plain_embeddings


def trained(name: str, update: str, rows: int, fields: int, dim: int) -> keras.Model:
    """A model compiled for one way of updating."""
    features = measure.one_value_features(rows, fields)
    if update == "plain Keras":
        with plain_embeddings():
            model = models.build(name, features, embedding_dim=dim)
        optimizer = keras.optimizers.Adagrad(0.01)
    else:
        model = models.build(name, features, embedding_dim=dim)
        optimizer = SparseAdagrad(0.01, table_update=update)
    return measure.compiled(model, optimizer, steps_per_execution=8, jit_compile=True)


def step_times(args: argparse.Namespace, rows: int) -> dict[str, tuple[float, float]]:
    """Median (wall, processor) seconds a step of each way."""
    keras.backend.clear_session()
    steps = max(8, args.examples // args.batch)
    data = measure.batches(rows, args.fields, args.batch, steps)

    def run(update: str) -> Callable[[], tuple[float, float]]:
        model = trained(args.model, update, rows, args.fields, args.dim)

        def seconds() -> tuple[float, float]:
            # A model of plain Keras is traced in its first run.
            with plain_embeddings() if update == "plain Keras" else nullcontext():
                wall, processor = measure.fit_seconds(model, data)
            return wall / steps, processor / steps

        return seconds

    ways = ("whole", "rows", "plain Keras")
    return measure.interleaved({way: run(way) for way in ways}, args.rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fm")
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rows", default="5000,20000,60000,200000", help="comma-separated")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--examples", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    where, table = measure.machine(), []
    for rows in (int(size) for size in args.rows.split(",")):
        times = step_times(args, rows)
        table.append(
            {
                "fields": args.fields,
                "batch": args.batch,
                "rows": rows,
                "rows per looked-up id": rows / (args.fields * args.batch),
                **{f"{way} ms/step": 1e3 * wall for way, (wall, _) in times.items()},
                **{f"{way} cpu ms": 1e3 * cpu for way, (_, cpu) in times.items()},
                "whole / rows": times["whole"][0] / times["rows"][0],
                "whole / rows, cpu": times["whole"][1] / times["rows"][1],
            }
        )
        print(table[-1], file=sys.stderr, flush=True)
    keys = ("fields", "batch", "rows")
    table = measure.with_earlier("training_choice", table, keys)
    table.sort(key=lambda row: [-row["fields"], row["batch"], row["rows"]])
    measure.write_results(
        "training_choice",
        table,
        command="python -m tests.benchmarks.training_choice --fields F --batch B --rows ROWS",
        note=f"{args.model}, D {args.dim}, Adagrad, uniform ids; medians of interleaved runs.",
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
