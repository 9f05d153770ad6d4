"""Training from TFRecords at the sizes of DA-HoFM's Table 5, beside its V100.

    python -m tests.benchmarks.training_table5 --models fm da-hofm   # the others keep their rows

Table 5 gives seconds an epoch on Criteo, 36.7 M examples, batch 512, D 16, 34 fields, which are
examples/s. Here each model reads its batches from the record files of a prepared dataset, as
`pipeline train` does, one epoch of `fit` a round, with SparseAdagrad and XLA. "share" is the rate
of the model's matrix products, of what the machine reaches in float32 products of 512 x 512 x 512
just before or after.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import models
from models.optimizers import SparseAdagrad
from preprocessing.prepared import PreparedDataset
from tests.benchmarks import measure
from tests.benchmarks.synthetic_prepared import write_prepared

NETWORK = {"hidden_units": (512, 512)}
# Seconds an epoch of 36.7 M examples, and the model's arguments.
TABLE_5: dict[str, tuple[float, dict[str, Any]]] = {
    "fm": (660.86, {}),
    "afm": (866.81, {"attention_dim": 16}),
    "wide-deep": (801.5, NETWORK),
    "deepfm": (827.38, NETWORK),
    "dcnv2": (788.17, NETWORK),
    "aoafm": (946.87, {}),
    "da-hofm-ns": (1450.72, NETWORK),
    "da-hofm": (1625.82, NETWORK),
    "afn+": (1672.71, {"log_neurons": 600, **NETWORK, "deep_units": (512, 512)}),
    "interhat": (2021.36, {}),
    "trans-enc": (2217.35, {}),
}
EXAMPLES = 36.7e6


def measure_model(name: str, prepared: PreparedDataset, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    keras.backend.clear_session()
    seconds, arguments = TABLE_5[name]
    features = models.Features.from_fields(args.features, prepared.fields)
    model = models.build(name, features, embedding_dim=16, **arguments)
    measure.compiled(model, SparseAdagrad(0.01), steps_per_execution=16, jit_compile=True)
    data = prepared.dataset("train", args.batch, drop_remainder=True)
    examples = args.rows // args.batch * args.batch
    before = measure.matmul_rate()
    measure.fit_seconds(model, data)
    times = [measure.fit_seconds(model, data) for _ in range(args.rounds)]
    peak = max(before, measure.matmul_rate())
    wall, processor = np.median(times, axis=0)
    small = models.Features.from_fields(1000, prepared.fields)
    flops = measure.flops_per_example(models.build(name, small, embedding_dim=16, **arguments), 64)
    rate, published = examples / wall, EXAMPLES / seconds
    return {
        "model": name,
        "Table 5, V100, ex/s": published,
        "ours, from TFRecords, ex/s": rate,
        "times it": rate / published,
        "cpu us/example": 1e6 * processor / examples,
        "matmul MFLOP/example": flops / 1e6,
        "matmul GFLOP/s here": peak / 1e9,
        "share": rate * flops / peak,
        "ex/s at the full matmul rate": peak / flops if flops else "",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=TABLE_5, default=list(TABLE_5))
    parser.add_argument("--rows", type=int, default=65_536, help="rows of the training split")
    parser.add_argument("--features", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--fields", type=int, default=34)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    where = measure.machine()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = write_prepared(Path(folder) / "data", args.rows, args.features, args.fields)
        for name in args.models:
            rows.append(measure_model(name, prepared, args))
            print(rows[-1], file=sys.stderr, flush=True)
    table = measure.with_earlier("training_table5", rows, ("model",))
    table.sort(key=lambda row: list(TABLE_5).index(row["model"]))
    measure.write_results(
        "training_table5",
        table,
        command="python -m tests.benchmarks.training_table5 --models MODEL...",
        note=(
            f"F {args.fields}, D 16, batch {args.batch}, a table of {args.features:,} rows, ids "
            "uniform over it, networks of 512-512. A call's rows replace earlier ones."
        ),
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
