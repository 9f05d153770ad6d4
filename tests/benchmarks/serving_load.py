"""The embedded server under load: raw features over gRPC, 1, 8 and 32 clients, with and without
batching.

    python -m tests.benchmarks.serving_load                          # a DeepFM with random weights
    python -m tests.benchmarks.serving_load --model-dir repository/ctr --seconds 10

Server and clients are two processes on the same machine. A client sends the next request when it
has the answer to the last one. The variants are run in turn, round after round, so that what else
the machine does falls on all alike; each figure is over all rounds.
"""

import argparse
import multiprocessing
import shutil
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


def main() -> None:
    """Run the benchmark and write `results/serving_load.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", type=Path, help="base path or version of a SavedModel")
    parser.add_argument("--model", default="deepfm", help="model of the zoo, without --model-dir")
    parser.add_argument("--rows", type=int, default=100, help="candidates a request")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        base = Path(folder) / "model"
        if arguments.model_dir:
            version = newest_version(arguments.model_dir)
            shutil.copytree(version, base / "1")
            request = recorded_request(version, arguments.rows)
        else:
            request = build_model(arguments.model, base / "1", arguments.rows)
        parameters = Path(folder) / "batching.config"
        parameters.write_text(BATCHING)
        flags = {
            "unbatched": [],
            "batched": ["--enable_batching", f"--batching_parameters_file={parameters}"],
        }
        ports = {
            name: servers.enter_context(server_process(base, chosen))[1]
            for name, chosen in flags.items()
        }
        body = request.SerializeToString()
        rows = list(measure(ports, body, arguments.clients, arguments.seconds, arguments.rounds))
    write_results(
        "serving_load",
        rows,
        command="python -m tests.benchmarks.serving_load",
        note=f"Raw features, {arguments.rows} candidates and {len(body):,} bytes a request, gRPC, "
        f"embedded server, {arguments.model_dir or arguments.model}; client on the same machine.",
        where=where,
    )


if __name__ == "__main__":
    main()
