"""The embedded server under load: raw features over gRPC, 1, 8 and 32 clients, with and without
batching.

    python -m tests.benchmarks.serving_load                          # a DeepFM with random weights
    python -m tests.benchmarks.serving_load --model-dir repository/ctr --seconds 10
    python -m tests.benchmarks.serving_load --compare threads        # TensorFlow's two pools

Server and clients are two processes on the same machine. A client sends the next request when it
has the answer to the last one. The variants are run in turn, round after round, so that what else
the machine does falls on all alike; each figure is over all rounds.
"""

import argparse
import multiprocessing
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np

from tests.benchmarks.measure import machine, write_results
from tests.benchmarks.serving_setup import (
    build_model,
    newest_version,
    recorded_request,
    server_process,
)

METHOD = "/tensorflow.serving.PredictionService/Predict"
BATCHING = """
max_batch_size { value: 3200 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000 }
"""

INTRA, INTER = "--tensorflow_intra_op_parallelism", "--tensorflow_inter_op_parallelism"
THREADS = {
    "inside 1, across: caller's": [f"{INTRA}=1"],
    "inside 2, across: caller's": [f"{INTRA}=2"],
    "inside 1, across 2": [f"{INTRA}=1", f"{INTER}=2"],
    "inside 2, across 2": [f"{INTRA}=2", f"{INTER}=2"],
}


def closed_loop(port: int, body: bytes, clients: int, seconds: float) -> list[float]:
    """Latencies in seconds of all requests that `clients` threads got answered in that time."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    stop_at = time.monotonic() + seconds

    def client(mine: list[float]) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            predict = channel.unary_unary(METHOD)
            predict(body, timeout=60)
            while time.monotonic() < stop_at:
                started = time.perf_counter()
                predict(body, timeout=60)
                mine.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client, args=(mine,)) for mine in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [latency for mine in latencies for latency in mine]


def measure(
    ports: dict[str, int], body: bytes, counts: list[int], seconds: float, rounds: int
) -> Iterator[dict[str, object]]:
    """One result row per variant and number of clients."""
    # Clients run in another process, or they would share the interpreter with this one's threads.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for clients in counts:
            spent: dict[str, list[float]] = {name: [] for name in ports}
            for _ in range(rounds):
                for name, port in ports.items():
                    arguments = (port, body, clients, seconds)
                    spent[name] += pool.apply(closed_loop, arguments)
            for name, latencies in spent.items():
                p50, p99 = np.percentile(latencies, [50, 99]) * 1000
                yield {
                    "clients": clients,
                    "variant": name,
                    "p50 ms": float(p50),
                    "p99 ms": float(p99),
                    "requests/s": len(latencies) / (seconds * rounds),
                }


def variants(compare: str, folder: Path) -> dict[str, list[str]]:
    """Flags of the servers that are compared."""
    if compare == "threads":
        return THREADS
    parameters = folder / "batching.config"
    parameters.write_text(BATCHING)
    return {
        "unbatched": [],
        "batched": ["--enable_batching", f"--batching_parameters_file={parameters}"],
    }


def measure_model(
    model: str, model_dir: Path | None, arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """The rows of one model, a server of it for each variant."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        base = Path(folder) / "model"
        if model_dir:
            version = newest_version(model_dir)
            shutil.copytree(version, base / "1")
            request = recorded_request(version, arguments.rows)
        else:
            request = build_model(model, base / "1", arguments.rows)
        ports = {
            name: servers.enter_context(server_process(base, flags))[1]
            for name, flags in variants(arguments.compare, Path(folder)).items()
        }
        body = request.SerializeToString()
        shared = {"model": model_dir.name if model_dir else model, "request bytes": len(body)}
        for row in measure(ports, body, arguments.clients, arguments.seconds, arguments.rounds):
            yield shared | row


def main() -> None:
    """Run the benchmark and write `results/serving_load.md`, or `serving_threads.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", type=Path, help="base path or version of a SavedModel")
    parser.add_argument("--models", nargs="+", default=["deepfm"], help="of the zoo")
    parser.add_argument("--compare", choices=["batching", "threads"], default="batching")
    parser.add_argument("--rows", type=int, default=100, help="candidates a request")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    where = machine()
    rows = []
    for model in [""] if arguments.model_dir else arguments.models:
        rows += measure_model(model, arguments.model_dir, arguments)
    write_results(
        "serving_threads" if arguments.compare == "threads" else "serving_load",
        rows,
        command=shlex.join(["python", "-m", "tests.benchmarks.serving_load", *sys.argv[1:]]),
        note=f"Raw features, {arguments.rows} candidates a request, gRPC, embedded server, client "
        f"on the same machine; the variants in turn, {arguments.rounds} rounds of "
        f"{arguments.seconds:g} s each.",
        where=where,
    )


if __name__ == "__main__":
    main()
