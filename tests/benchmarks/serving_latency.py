"""Latency of served models in the graph, and of `score_candidates` beside `serving_default`.

    python -m tests.benchmarks.serving_latency graph --output FILE.md     # every registered model
    python -m tests.benchmarks.serving_latency graph --models fm da-hofm
    python -m tests.benchmarks.serving_latency graph --raw           # and from raw columns
    python -m tests.benchmarks.serving_latency candidates

Criteo's layout (13 numbers, 26 categories), D = 16, random weights. "ids and values" is the model
alone, as in DA-HoFM's Table 5 (100 samples, Criteo, V100 there); "raw columns" is serving_default:
lookup and model. Both run as in a server (one TF1 session, feeds and fetches by name).
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
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
from tests.benchmarks.measure import machine

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
CANDIDATES = 500
CONTEXT = [*NUMBERS[:6], *CATEGORIES[:13]]

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


def measure_graph(name: str, transform: Transform, folder: Path, raw: bool) -> list[float]:
    """Milliseconds of the model alone, and if asked for from raw columns."""
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
    return found


def graph_table(names: list[str], raw: bool) -> str:
    """One line a model, slowest last."""
    transform, where = Transform(), machine()
    results = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure_graph(name, transform, Path(folder), raw)
        print(name, *(f"{found:.2f}" for found in results[name]), "ms", flush=True)
    heads = ["model", "ids and values", *(["raw columns"] if raw else [])]
    lines = [
        f"{where}; {ROWS} rows, {len(FIELDS)} fields, {THREADS} inter-op threads and one inside an "
        f"op, median of {REPEATS} runs, milliseconds.",
        "",
        f"| {' | '.join(heads)} | paper (V100) | ids and values / paper |",
        "| --- " * (len(heads) + 2) + "|",
    ]
    for name, found in sorted(results.items(), key=lambda result: result[1]):
        paper = PAPER.get(name)
        shown = f"{paper:.2f}" if paper else f"(slowest: {SLOWEST_IN_PAPER:.2f})"
        ratio = found[0] / (paper or SLOWEST_IN_PAPER)
        figures = " | ".join(f"{milliseconds:.2f}" for milliseconds in found)
        lines.append(f"| {name} | {figures} | {shown} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def candidates_table(name: str) -> str:
    """Bytes and latency of one request for CANDIDATES candidates, both ways, interleaved."""
    from serving.client import Client
    from serving.embedded import Server

    transform = Transform()
    features = Features(transform.num_features, tuple(Field(field) for field in FIELDS))
    model = models.build(name, features, embedding_dim=16)
    rows = raw_rows(CANDIDATES)
    context = {column: rows[column][0] for column in CONTEXT}
    candidates = {column: rows[column] for column in FIELDS if column not in context}
    repeated = {column: np.repeat(rows[column][:1], CANDIDATES) for column in CONTEXT}
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(Path(folder) / "bench" / "1", Scorer(model, transform, COLUMNS))
        with (
            Server.for_model(Path(folder) / "bench", "bench") as server,
            Client(f"127.0.0.1:{server.grpc_port}", "bench") as client,
        ):
            wanted = {"outputs": ["probability"]}
            ways = {
                "serving_default": lambda: client.predict({**repeated, **candidates}, **wanted),
                "score_candidates": lambda: client.score_candidates(context, candidates, **wanted),
            }
            sizes = {way: _request_bytes(client, call) for way, call in ways.items()}
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(220):
                for way, call in ways.items():
                    started = time.perf_counter()
                    call()
                    if number >= 20:
                        seconds[way].append(time.perf_counter() - started)
    lines = [
        f"{machine()}; {name}, {CANDIDATES} candidates, {len(CONTEXT)} of {len(FIELDS)} columns "
        "are context; gRPC, embedded server, client on the same machine, 200 interleaved pairs.",
        "",
        "| signature | request bytes | p50 ms | p99 ms |",
        "| --- | --- | --- | --- |",
    ]
    for way in ways:
        p50, p99 = np.percentile(seconds[way], [50, 99]) * 1000
        lines.append(f"| {way} | {sizes[way]:,} | {p50:.2f} | {p99:.2f} |")
    medians = [float(np.median(seconds[way])) for way in ways]
    bytes_ratio = sizes["score_candidates"] / sizes["serving_default"]
    lines.append(f"| ratio | {bytes_ratio:.2f} | {medians[1] / medians[0]:.2f} | |")
    return "\n".join(lines) + "\n"


def _request_bytes(client, call: Callable[[], object]) -> int:
    """Size of the Predict message a call sends."""
    sizes = []
    transport = client._transport
    send = transport.send

    def measured(request, timeout: float):
        sizes.append(request.request.message.ByteSize())
        return send(request, timeout)

    transport.send = measured
    try:
        call()
    finally:
        transport.send = send
    return max(sizes)


def main() -> None:
    """Print, and with --output write, one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["graph", "candidates"])
    parser.add_argument("--models", nargs="*", default=None)
    parser.add_argument("--raw", action="store_true", help="measure with the lookup as well")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "graph":
        # The ops' threads are the process's, of whatever asks first: here building a model, in a
        # server the first session.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        text = graph_table(arguments.models or models.names(), arguments.raw)
    else:
        text = candidates_table((arguments.models or ["fm"])[0])
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
