"""The input pipeline alone, and training from disk against training from memory.

    python -m tests.benchmarks.training_input --model fm --rows 200000

Writes a prepared dataset's record format (39 ids and values per row) to a temporary folder and
reads it as `pipeline train` does. Reading alone should outrun the fastest model by three, and
training from disk stay within a tenth of training from memory.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

import models
from models.optimizers import SparseAdagrad
from preprocessing.prepared import PreparedDataset
from tests.benchmarks import measure
from tests.benchmarks.synthetic_prepared import write_prepared


def epoch_seconds(dataset: tf.data.Dataset) -> tuple[float, float]:
    """Wall and processor seconds of one pass without a model."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in dataset:
        pass
    return time.perf_counter() - wall, time.process_time() - processor


def in_memory(prepared: PreparedDataset, batch: int) -> tf.data.Dataset:
    """The whole batches of the training split, as tensors already."""
    arrays = prepared.arrays("train")
    steps = len(arrays["label"]) // batch
    ids, values, labels = (
        np.reshape(arrays[key][: steps * batch], (steps, batch, *arrays[key].shape[1:]))
        for key in ("ids", "values", "label")
    )
    return tf.data.Dataset.from_tensor_slices(({"ids": ids, "values": values}, labels)).prefetch(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fm")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the split")
    parser.add_argument("--features", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    where = measure.machine()
    with tempfile.TemporaryDirectory() as folder:
        prepared = write_prepared(Path(folder) / "data", args.rows, args.features, args.fields)
        rows = args.rows // args.batch * args.batch
        disk = prepared.dataset("train", args.batch, shuffle=True, drop_remainder=True)
        memory = in_memory(prepared, args.batch)
        features = models.Features.from_fields(args.features, prepared.fields)
        timed = {"reading alone": lambda: epoch_seconds(disk)}
        for source, data in (("training from disk", disk), ("training from memory", memory)):
            model = models.build(args.model, features, embedding_dim=16)
            measure.compiled(model, SparseAdagrad(0.01), steps_per_execution=16, jit_compile=True)
            timed[source] = lambda model=model, data=data: measure.fit_seconds(model, data)
        times = measure.interleaved(timed, args.rounds)
    fastest = times["training from memory"][0]
    measure.write_results(
        "training_input",
        [
            {
                "run": run,
                "examples/s": rows / wall,
                "cpu us/example": 1e6 * processor / rows,
                "times training from memory": fastest / wall,
            }
            for run, (wall, processor) in times.items()
        ],
        command="python -m tests.benchmarks.training_input " + " ".join(sys.argv[1:]),
        note=f"{args.model}, F {args.fields}, batch {args.batch}, {args.rows:,} rows.",
        where=where,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
