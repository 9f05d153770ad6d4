"""Updating tables whole against by row, both in XLA, over table size and batch.

    python -m tests.benchmarks.training_choice

Where they cross is what `models.optimizers.choice` goes by. Adagrad, for which both give the same
weights; the rows of Frappe (5,382 x 16, 10 fields, batch 4096) are the third group.
"""

import argparse
import sys
from typing import Any

import keras

import models
from models.optimizers import SparseAdagrad
from tests.benchmarks import measure

GROUPS = {  # (fields, batch): rows of the table
    (39, 512): (5_000, 20_000, 60_000, 200_000, 600_000),
    (39, 4096): (5_000, 60_000, 200_000, 600_000, 1_500_000),
    (10, 4096): (5_382, 60_000),
}


def trained(name: str, update: str, rows: int, fields: int, dim: int) -> Any:
    """A model compiled for one way of updating."""
    model = models.build(name, measure.one_value_features(rows, fields), embedding_dim=dim)
    optimizer = SparseAdagrad(0.01, table_update=update)
    return measure.compiled(model, optimizer, steps_per_execution=8, jit_compile=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fm")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--examples", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    where, table = measure.machine(), []
    for (fields, batch), sizes in GROUPS.items():
        for rows in sizes:
            keras.backend.clear_session()
            steps = max(8, args.examples // batch)
            data = measure.batches(rows, fields, batch, steps)
            runs = {}
            for update in ("whole", "rows"):
                model = trained(args.model, update, rows, fields, args.dim)
                runs[update] = lambda model=model, data=data: measure.fit_seconds(model, data)
            times = measure.interleaved(runs, args.rounds)
            table.append(
                {
                    "fields": fields,
                    "batch": batch,
                    "rows": rows,
                    "rows per looked-up id": rows / (fields * batch),
                    **{f"{run} ms/step": 1e3 * wall / steps for run, (wall, _) in times.items()},
                    **{f"{run} cpu ms": 1e3 * cpu / steps for run, (_, cpu) in times.items()},
                    "whole / rows": times["whole"][0] / times["rows"][0],
                }
            )
            print(table[-1], file=sys.stderr, flush=True)
    measure.write_results(
        "training_choice",
        table,
        command="python -m tests.benchmarks.training_choice " + " ".join(sys.argv[1:]),
        note=f"{args.model}, D {args.dim}, Adagrad, uniform ids.",
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
