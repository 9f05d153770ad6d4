"""What the training benchmarks share: data, interleaved timing, the machine, result files."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models

RESULTS = Path(__file__).parent / "results"


def one_value_features(num_features: int, num_fields: int) -> models.Features:
    """A layout of `num_fields` single-valued fields."""
    fields = [{"name": f"f{i}", "start": i, "stop": i + 1} for i in range(num_fields)]
    return models.Features.from_fields(num_features, fields)


def batches(
    num_features: int, num_fields: int, batch: int, steps: int, skewed: bool = False
) -> tf.data.Dataset:
    """Whole batches in memory with ids uniform over the table: the worst case for a row update,
    as hardly a row repeats and none is in the cache. Or skewed as those of logs are, by Zipf's
    law: the k-th id in proportion to 1 / k."""
    rng = np.random.default_rng(0)
    shape = (steps, batch, num_fields)
    if skewed:
        ids = (np.exp(rng.random(shape) * np.log(num_features + 1)) - 1).astype("int32")
    else:
        ids = rng.integers(0, num_features, shape, dtype="int32")
    inputs = {
        "ids": np.minimum(ids, num_features - 1),
        "values": np.ones(shape, "float32"),
    }
    labels = rng.integers(0, 2, (steps, batch)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((inputs, labels)).prefetch(2)


def compiled(model: keras.Model, optimizer: keras.Optimizer, **arguments: Any) -> keras.Model:
    """The model with the loss of click prediction."""
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True), **arguments)
    return model


def fit_seconds(model: keras.Model, dataset: tf.data.Dataset) -> tuple[float, float]:
    """Wall and processor seconds of one epoch of `fit`."""
    wall, processor = time.perf_counter(), time.process_time()
    model.fit(dataset, verbose=0)
    return time.perf_counter() - wall, time.process_time() - processor


def interleaved(
    runs: dict[str, Callable[[], tuple[float, float]]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median (wall, processor) seconds of each run, one of each per round after a warm-up round.

    Whatever else the machine does falls on all of them alike.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = run()
            if number:
                times[name].append(seconds)
    return {name: tuple(np.median(spent, axis=0)) for name, spent in times.items()}


def matmul_rate(size: int = 512, repeats: int = 50) -> float:
    """FLOP/s of float32 size x size x size matrix products, the best of five rounds."""
    left, right = tf.random.normal((size, size)), tf.random.normal((size, size))

    @tf.function
    def products() -> tf.Tensor:
        result = left
        for _ in range(repeats):
            result = tf.matmul(result, right) * 1e-2
        return result

    products()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        products().numpy()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 * repeats / best


def flops_per_example(model: keras.Model, batch: int) -> float:
    """Multiplications and additions of matrix products in one training step, per example.

    Counted in the traced forward and backward pass, see `product_flops`.
    """

    @tf.function
    def step(ids: tf.Tensor, values: tf.Tensor) -> list[Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model({"ids": ids, "values": values}, training=True))
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    shape = (batch, model.features.num_positions)
    graph = step.get_concrete_function(
        tf.TensorSpec(shape, tf.int32), tf.TensorSpec(shape, tf.float32)
    ).graph
    return product_flops(graph) / batch


def product_flops(graph: tf.Graph) -> float:
    """Multiplications and additions of a graph's matrix products whose shapes are known.

    MatMul and batched MatMul, 2 m n k each, and einsum, 2 times the sizes of all its indices.
    """
    total = 0.0
    for operation in graph.get_operations():
        known = [t.shape for t in (*operation.inputs, *operation.outputs)]
        if not all(shape.is_fully_defined() for shape in known):
            continue
        if operation.type in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):
            flag = "transpose_a" if operation.type == "MatMul" else "adj_x"
            inner = known[0][-2] if operation.get_attr(flag) else known[0][-1]
            total += 2.0 * known[-1].num_elements() * inner
        elif operation.type == "Einsum" and len(operation.inputs) == 2:
            terms = operation.get_attr("equation").decode().split("->")[0].split(",")
            sizes: dict[str, int] = {}
            for term, shape in zip(terms, known[:2], strict=True):
                sizes |= dict(zip(term, shape, strict=True))
            total += 2.0 * float(np.prod(list(sizes.values())))
    return total


def machine() -> str:
    """Processor, cores and library versions, one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = lines[0].split(":")[1].strip() if lines else name
    load = os.getloadavg()[0]
    return (
        f"{name}, {os.cpu_count()} cores, load {load:.1f} at the start, Python "
        f"{platform.python_version()}, tensorflow {tf.__version__}, keras {keras.__version__}"
    )


def write_results(
    name: str, rows: Sequence[dict[str, Any]], *, command: str, note: str, where: str
) -> None:
    """Writes `results/<name>.md` (a table) and `results/<name>.jsonl`, prints the table."""
    columns = list(rows[0])
    lines = [
        f"# {name}",
        "",
        note,
        "",
        f"Machine: {where}",
        "",
        f"Command: `{command}`",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_shown(row[column]) for column in columns) + " |" for row in rows),
    ]
    RESULTS.mkdir(exist_ok=True)
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(text, flush=True)


def with_earlier(
    name: str, rows: Sequence[dict[str, Any]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows just measured and those of `results/<name>.jsonl` that they do not replace.

    So that a long table can be measured in several short calls.
    """
    path = RESULTS / f"{name}.jsonl"
    earlier = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    measured = {tuple(row[key] for key in keys) for row in rows}
    kept = [row for row in earlier if tuple(row.get(key) for key in keys) not in measured]
    return [*(row for row in kept if set(row) == set(rows[0])), *rows]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
