"""Latency of served models in the graph, without a server.

    python -m tests.benchmarks.serving_latency                       # every registered model
    python -m tests.benchmarks.serving_latency --models fm da-hofm   # the others keep their rows
    python -m tests.benchmarks.serving_latency --raw                 # and from raw columns

Criteo's layout (13 numbers, 26 categories), D = 16, random weights. "ms" is the model alone, ids
and values in, as in DA-HoFM's Table 5 (100 samples, Criteo, V100 there); "raw ms" is
serving_default: lookup and model. Both run as in a server (one TF1 session, feeds and fetches by
name). "MFLOP" are the model's matrix products, "bound" their time at the rate that both cores reach
together in large products: no float32 program is faster. Models that Table 5 does not have are
compared with its slowest, in brackets.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

import models
from models.features import Features, Field
from serving.columns import parse_columns
from serving.row_parts import logits_in_parts
from serving.saved_model import write_saved_model
from serving.session import SavedModelSession
from serving.signatures import Scorer
from tests.benchmarks.measure import machine, product_flops, with_earlier, write_results

NUMBERS = [f"I{i}" for i in range(1, 14)]
CATEGORIES = [f"C{i}" for i in range(1, 27)]
FIELDS = [*NUMBERS, *CATEGORIES]
COLUMNS = parse_columns(
    [{"name": n, "dtype": "float32"} for n in NUMBERS]
    + [{"name": c, "dtype": "string"} for c in CATEGORIES]
)
VALUES_PER_FIELD = 4000
ROWS = 100
REPEATS = 200
THREADS = 2  # inter-op threads, one inside an op: what `deploy` tells TensorFlow Serving

# Zhu et al., DA-HoFM, Table 5: milliseconds for 100 samples of Criteo on a V100.
PAPER = {
    "fm": 3.42,
    "afm": 3.25,
    "wide-deep": 3.35,
    "deepfm": 3.36,
    "dcnv2": 3.30,
    "aoafm": 3.39,
    "da-hofm-ns": 3.80,
    "da-hofm": 4.01,
    "afn+": 4.38,
    "interhat": 5.03,
    "trans-enc": 5.46,
}
SLOWEST_IN_PAPER = max(PAPER.values())


class Transform(tf.Module):
    """The shape of a TFT graph: one lookup of `field=value` tokens for all fields."""

    def __init__(self) -> None:
        super().__init__()
        tokens = [f"{c}={v:x}" for c in CATEGORIES for v in range(VALUES_PER_FIELD)]
        self.num_features = len(FIELDS) + len(tokens)
        ids = tf.range(len(FIELDS), self.num_features, dtype=tf.int64)
        initializer = tf.lookup.KeyValueTensorInitializer(tokens, ids)
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        cells = [tf.strings.join([f"{c}=", raw[c]]) for c in CATEGORIES]
        found = tf.split(self.table.lookup(tf.concat(cells, 0)), [tf.size(c) for c in cells])
        rows = tf.reduce_max(tf.stack([tf.size(raw[name]) for name in FIELDS]))
        ids = [tf.fill([rows], np.int64(i)) for i in range(len(NUMBERS))]
        values = [tf.broadcast_to(tf.math.log1p(raw[n]), [rows]) for n in NUMBERS]
        for special, part in enumerate(found, len(NUMBERS)):
            ids.append(tf.broadcast_to(tf.where(part < 0, np.int64(special), part), [rows]))
            values.append(tf.ones([rows]))
        return {"ids": tf.stack(ids, 1), "values": tf.stack(values, 1)}


class Straight:
    """The model without the lookup: ids and values in, probability out."""

    def __init__(self, model: Callable) -> None:
        self.model = model

    def save(self, directory: Path) -> None:
        shape = [None, len(FIELDS)]
        root = tf.Module()
        root.weights = [variable.value for variable in self.model.variables]

        @tf.function(
            input_signature=[
                tf.TensorSpec(shape, tf.int64, "ids"),
                tf.TensorSpec(shape, tf.float32, "values"),
            ]
        )
        def call(ids: tf.Tensor, values: tf.Tensor) -> dict[str, tf.Tensor]:
            logit = logits_in_parts(self.model, {"ids": ids, "values": values})
            return {"probability": tf.sigmoid(logit)}

        tf.saved_model.save(root, str(directory), signatures={"serving_default": call})


def raw_rows(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows as a server gets them."""
    draw = np.random.default_rng(seed)
    rows = {n: draw.gamma(1.0, 20.0, size).astype(np.float32) for n in NUMBERS}
    for category in CATEGORIES:
        values = draw.integers(0, VALUES_PER_FIELD, size)
        rows[category] = np.array([f"{v:x}".encode() for v in values], object)
    return rows


def median_ms(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median of `repeats` runs after a tenth as many unmeasured."""
    seconds = []
    for number in range(repeats + repeats // 10):
        started = time.perf_counter()
        run()
        if number >= repeats // 10:
            seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def measure_graph(
    name: str, transform: Transform, folder: Path, raw: bool
) -> tuple[list[float], float]:
    """Milliseconds of the model alone, and if asked for from raw columns; and its FLOPs."""
    features = Features(transform.num_features, tuple(Field(field) for field in FIELDS))
    model = models.build(name, features)  # D 16 is every default
    Straight(model).save(folder / "model")
    rows = raw_rows(ROWS)
    prepared = transform({column: tf.constant(values) for column, values in rows.items()})
    inputs = {key: value.numpy() for key, value in prepared.items()}
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=THREADS
    )
    with SavedModelSession(folder / "model", config) as session:
        found = [median_ms(lambda: session.run("serving_default", inputs, ["probability"]))]
    if raw:
        write_saved_model(folder / "raw", Scorer(model, transform, COLUMNS))
        with SavedModelSession(folder / "raw", config) as session:
            found.append(median_ms(lambda: session.run("serving_default", rows, ["probability"])))
    return found, forward_flops(model)


def forward_flops(model: Callable) -> float:
    """Multiplications and additions of the matrix products that score ROWS rows."""
    shape = (ROWS, len(FIELDS))

    @tf.function
    def call(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return model({"ids": ids, "values": values}, training=False)

    graph = call.get_concrete_function(
        tf.TensorSpec(shape, tf.int64), tf.TensorSpec(shape, tf.float32)
    ).graph
    return product_flops(graph)


def peak_rate(size: int = 768, repeats: int = 20) -> float:
    """FLOP/s of large float32 matrix products on all THREADS threads at once, the best of 9."""
    left, right = tf.random.normal((size, size)), tf.random.normal((size, size))

    @tf.function
    def products() -> list[tf.Tensor]:
        chains = []
        for chain in range(THREADS):
            result = left + float(chain)  # different, or TensorFlow would compute them once
            for _ in range(repeats):
                result = tf.matmul(result, right) * 1e-2
            chains.append(tf.reduce_sum(result))
        return chains

    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        [chain.numpy() for chain in products()]
        seconds.append(time.perf_counter() - started)
    return THREADS * repeats * 2.0 * size**3 / min(seconds[1:])


def table_rows(names: list[str], raw: bool) -> Iterator[dict[str, object]]:
    """One row a model."""
    transform, peak = Transform(), peak_rate()
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found, flops = measure_graph(name, transform, Path(folder), raw)
        paper = PAPER.get(name)
        row = {
            "model": name,
            **dict(zip(("ms", "raw ms"), found, strict=False)),
            "MFLOP": flops / 1e6,
            "peak GFLOP/s": peak / 1e9,
            "bound ms": 1000 * flops / peak,
            "Table 5 ms": f"{paper:.2f}" if paper else f"({SLOWEST_IN_PAPER:.2f})",
            "ms / Table 5": found[0] / (paper or SLOWEST_IN_PAPER),
        }
        print(row, flush=True)
        yield row


def main() -> None:
    """Measure models; those measured earlier and not now keep their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=None)
    parser.add_argument("--raw", action="store_true", help="measure with the lookup as well")
    arguments = parser.parse_args()
    # The ops' threads are the process's, of whatever asks first: here building a model, in a
    # server the first session.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    where, name = machine(), "serving_latency_raw" if arguments.raw else "serving_latency"
    rows = list(table_rows(arguments.models or models.names(), arguments.raw))
    write_results(
        name,
        sorted(with_earlier(name, rows, ("model",)), key=lambda row: row["ms"]),
        command=f"python -m tests.benchmarks.serving_latency{' --raw' if arguments.raw else ''}",
        note=f"Milliseconds for {ROWS} rows of {len(FIELDS)} fields; {THREADS} inter-op threads "
        f"and one inside an op, median of {REPEATS} runs. In brackets the slowest of Table 5, for "
        "models that it does not have. Rows may be of several calls (`--models`), each with the "
        "peak that the machine had then.",
        where=where,
    )


if __name__ == "__main__":
    main()
