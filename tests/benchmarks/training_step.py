"""Training rate of `fit`: row-sparse Adagrad against the same network in plain Keras 3.

    python -m tests.benchmarks.training_step --models fm,afm --batch 512

Per model and batch, alternating in one process: ours as `pipeline train` has it (row-sparse
Adagrad, the step compiled by XLA), the same without XLA, ours on a table of 10,000 rows, and the
same network with `keras.layers.Embedding` and `keras.optimizers.Adagrad`. All through `fit`, on
the same batches in memory; ours with 16 steps per execution.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import keras

import models
from models.optimizers import SparseAdagrad
from tests.benchmarks import measure
from tests.benchmarks.plain_keras import plain_embeddings

# As the papers size them; "autoint+deepctr" is the size of DeepCTR's default, with the network
# that the libraries were measured with: their AutoInt is smaller than the paper's.
ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("fm", "afm", "deepfm", "dcnv2", "xdeepfm", "autoint")},
    "autoint+deepctr": ("autoint+", {"attention_dim": 16, "hidden_units": (400, 400, 400)}),
    **{name: (name, {}) for name in ("da-hofm", "graphfm")},
}
# Examples/s of the best of four public libraries on a two-core machine (batch 512, batch 4096).
PEERS = {
    "fm": {512: 17_700, 4096: 100_000},
    "deepfm": {512: 14_300, 4096: 56_600},
    "dcnv2": {512: 8_100, 4096: 21_500},
    "afm": {512: 7_500, 4096: 14_700},
    "autoint": {512: 8_100, 4096: 17_600},
    "autoint+deepctr": {512: 8_100, 4096: 17_600},
    "xdeepfm": {512: 4_100, 4096: 6_200},
}
SMALL_TABLE = 10_000


def built(name: str, args: argparse.Namespace, rows: int) -> keras.Model:
    """A model of the table with so many rows in its own."""
    model, arguments = ZOO[name]
    features = measure.one_value_features(rows, args.fields)
    return models.build(model, features, embedding_dim=args.dim, **arguments)


def ours(name: str, args: argparse.Namespace, rows: int, xla: bool) -> keras.Model:
    """A model compiled as the trainer does it."""
    steps = args.steps_per_execution
    return measure.compiled(
        built(name, args, rows), SparseAdagrad(0.01), steps_per_execution=steps, jit_compile=xla
    )


def plain(name: str, args: argparse.Namespace) -> Any:
    """The same network with Keras's own embedding and optimizer."""
    with plain_embeddings():
        model = built(name, args, args.rows)
    return measure.compiled(model, keras.optimizers.Adagrad(0.01))


def runs(name: str, batch: int, args: argparse.Namespace) -> dict[str, Callable]:
    """What is timed for one model, by name: each gives its (wall, processor) seconds a step."""
    steps = max(4, args.examples // batch)
    few = max(4, steps // args.fewer)  # of the slower ways, or their turns would take minutes

    def timed(model: keras.Model, rows: int, count: int) -> Callable[[], tuple[float, float]]:
        data = measure.batches(rows, args.fields, batch, count)

        def run() -> tuple[float, float]:
            wall, processor = measure.fit_seconds(model, data)
            return wall / count, processor / count

        return run

    compared = timed(plain(name, args), args.rows, few)

    def run_plain() -> tuple[float, float]:
        with plain_embeddings():
            return compared()

    return {
        "plain": run_plain,
        "without XLA": timed(ours(name, args, args.rows, False), args.rows, few),
        "ours": timed(ours(name, args, args.rows, True), args.rows, steps),
        "small": timed(ours(name, args, SMALL_TABLE, True), SMALL_TABLE, steps),
    }


def measure_model(name: str, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    keras.backend.clear_session()
    before = measure.matmul_rate()
    times = measure.interleaved(runs(name, batch, args), args.rounds)
    peak = max(before, measure.matmul_rate())
    rate = {run: batch / wall for run, (wall, _) in times.items()}
    flops = measure.flops_per_example(built(name, args, rows=1000), 64)
    peer = PEERS.get(name, {}).get(batch)
    return {
        "model": name,
        "batch": batch,
        "plain Keras ex/s": rate["plain"],
        "ours ex/s": rate["ours"],
        "without XLA ex/s": rate["without XLA"],
        "ratio": rate["ours"] / rate["plain"],
        "step against a 10,000-row table": rate["small"] / rate["ours"],
        "best library ex/s": peer or "",
        "times it": rate["ours"] / peer if peer else "",
        "cpu ms/step": 1e3 * times["ours"][1],
        "plain cpu ms/step": 1e3 * times["plain"][1],
        "matmul MFLOP/example": flops / 1e6,
        "matmul GFLOP/s here": peak / 1e9,
        "share of matmul rate": rate["ours"] * flops / peak,
        "ex/s at the full matmul rate": peak / flops if flops else "",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(ZOO), help="comma-separated")
    parser.add_argument("--batch", default="512,4096", help="comma-separated batch sizes")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--examples", type=int, default=65_536, help="examples per timed run")
    parser.add_argument("--fewer", type=int, default=4, help="times fewer for plain Keras")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps-per-execution", type=int, default=16)
    parser.add_argument("--name", default="training_step", help="name of the result files")
    args = parser.parse_args()
    where = measure.machine()
    rows = []
    for name in args.models.split(","):
        for batch in (int(size) for size in args.batch.split(",")):
            rows.append(measure_model(name, batch, args))
            print(rows[-1], file=sys.stderr, flush=True)
    table = measure.with_earlier(args.name, rows, ("model", "batch"))
    table.sort(key=lambda row: (row["batch"], list(ZOO).index(row["model"])))
    measure.write_results(
        args.name,
        table,
        command="python -m tests.benchmarks.training_step --models MODEL --batch BATCH",
        note=(
            f"F {args.fields}, D {args.dim}, {args.rows:,} rows, ids uniform over the table. FLOPs "
            "are those of matrix products; their rate, for float32 products of 512 x 512 x 512, "
            "was measured before and after each row, the better counts: where it is far below "
            "280 GFLOP/s something else ran on the machine too. Medians of interleaved runs; one "
            "call per row or few, a call's rows replace earlier ones of the same model and batch. "
            "autoint is of the paper's size, autoint+deepctr of DeepCTR's default with a network "
            "of 400-400-400: what size the libraries' figure had is not known."
        ),
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
