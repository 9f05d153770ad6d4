"""What averaging the weights costs a step: by row, and of whole tables as Keras does it.

    python -m tests.benchmarks.training_averages --rows 100000,1000000

A run is one `fit`, at whose end Keras puts the averages into the weights: whole tables, once.
"""

import argparse
import sys
from collections.abc import Callable

import keras

import models
from models.optimizers import SparseAdagrad
from tests.benchmarks import measure

WAYS = {
    "without": {},
    "by row": {"use_ema": True},
    "whole": {"use_ema": True, "table_update": "whole"},
}


def step_times(args: argparse.Namespace, rows: int) -> dict[str, tuple[float, float]]:
    """Median (wall, processor) seconds a step of each way."""
    keras.backend.clear_session()
    data = measure.batches(rows, args.fields, args.batch, args.steps)
    features = measure.one_value_features(rows, args.fields)

    def run(options: dict) -> Callable[[], tuple[float, float]]:
        model = measure.compiled(
            models.build(args.model, features, embedding_dim=args.dim),
            SparseAdagrad(0.01, **options),
            steps_per_execution=8,
            jit_compile=True,
        )

        def seconds() -> tuple[float, float]:
            wall, processor = measure.fit_seconds(model, data)
            return wall / args.steps, processor / args.steps

        return seconds

    return measure.interleaved({way: run(options) for way, options in WAYS.items()}, args.rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fm")
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rows", default="10000,100000,1000000", help="comma-separated")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    where, table = measure.machine(), []
    for rows in (int(size) for size in args.rows.split(",")):
        times = step_times(args, rows)
        without = times["without"][0]
        table.append(
            {
                "rows": rows,
                **{f"{way} ms/step": 1e3 * wall for way, (wall, _) in times.items()},
                **{f"{way} / without": times[way][0] / without for way in ("by row", "whole")},
            }
        )
        print(table[-1], file=sys.stderr, flush=True)
    measure.write_results(
        "training_averages",
        table,
        command="python -m tests.benchmarks.training_averages",
        note=f"{args.model}, {args.fields} fields, batch {args.batch}, D {args.dim}, Adagrad, XLA, "
        "uniform ids; medians of interleaved runs. Without averages tables are updated by row.",
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
