"""Load while a new version appears every 20 s, broken ones among them: nobody may be failed.

    python -m tests.benchmarks.serving_swap_soak                     # 10 minutes
    python -m tests.benchmarks.serving_swap_soak --minutes 2 --model-dir repository/ctr

Ends with exit code 1 if any request failed, a good version was not served, or the server's memory
grew by more than a tenth from the end of the first quarter to the end.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from tests.benchmarks.measure import machine, write_results
from tests.benchmarks.serving_setup import (
    MODEL,
    build_model,
    newest_version,
    recorded_request,
    resident_mib,
    server_process,
)

METHOD = "/tensorflow.serving.PredictionService/Predict"
# Far above any answer: the soak counts refused and broken requests, the table shows the slow ones.
DEADLINE = 300.0
SAMPLE = 0.5
KEEP = 3
BROKEN_EVERY = 4
GROWTH = 1.1


@dataclass
class Watched:
    """What the load and the publisher saw."""

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)
    memory: list[float] = field(default_factory=list)


def load(port: int, body: bytes, stop: threading.Event, watched: Watched) -> None:
    """One client over gRPC, request after request."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        predict = channel.unary_unary(METHOD)
        while not stop.is_set():
            started = time.perf_counter()
            try:
                answer = predict(body, timeout=DEADLINE)
            except grpc.RpcError as error:
                watched.failures.append(f"{error.code().name}: {error.details()}")
                continue
            watched.latencies.append(time.perf_counter() - started)
            response = predict_pb2.PredictResponse.FromString(answer)
            watched.versions.add(response.model_spec.version.value)


def publish(source: Path, base: Path, version: int) -> bool:
    """Put a version in place by one rename; whether it is a good one."""
    broken = version % BROKEN_EVERY == 0
    aside = base / f"{version}.being-written"
    shutil.copytree(source, aside)
    if broken:
        data = next((aside / "variables").glob("variables.data-*"))
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    aside.rename(base / str(version))
    return not broken


def drop_old(base: Path, good: list[int]) -> None:
    """Delete all but the last few versions, as a deploy script would."""
    for path in base.iterdir():
        if path.name.isdigit() and int(path.name) < good[-KEEP:][0]:
            shutil.rmtree(path)


def states(port: int) -> dict[int, str]:
    """State by version, from the REST status."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/v1/models/{MODEL}", timeout=60) as answer:
        listed = json.load(answer)["model_version_status"]
    return {int(entry["version"]): entry["state"] for entry in listed}


def soak(source: Path, body: bytes, base: Path, versions: int, every: float, clients: int):
    """Publish so many versions, one every so many seconds; what was seen, the good versions and
    the final states."""
    watched, good, stop = Watched(), [1], threading.Event()
    publish(source, base, 1)
    # No wait between tries of a broken version, so that it is given up within one period.
    flags = ["--max_num_load_retries=1", "--load_retry_interval_micros=100000"]
    with server_process(base, flags) as (pid, grpc_port, rest_port):
        threads = [
            threading.Thread(target=load, args=(grpc_port, body, stop, watched))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for version in range(2, 2 + versions):
            if publish(source, base, version):
                good.append(version)
            drop_old(base, good)
            for _ in range(round(every / SAMPLE)):
                watched.memory.append(resident_mib(pid))
                time.sleep(SAMPLE)
        time.sleep(3.0)
        final = states(rest_port)
        stop.set()
        for thread in threads:
            thread.join()
    return watched, good, final


def main() -> None:
    """Run the soak, write `results/serving_swap_soak.md`, fail if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", type=Path, help="base path or version of a SavedModel")
    parser.add_argument("--model", default="deepfm", help="model of the zoo, without --model-dir")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between versions")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rows", type=int, default=100, help="candidates a request")
    arguments = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        source, base = Path(folder) / "source", Path(folder) / "served"
        base.mkdir()
        if arguments.model_dir:
            shutil.copytree(newest_version(arguments.model_dir), source)
            request = recorded_request(source, arguments.rows)
        else:
            request = build_model(arguments.model, source, arguments.rows)
        body = request.SerializeToString()
        watched, good, final = soak(
            source,
            body,
            base,
            round(60 * arguments.minutes / arguments.every),
            arguments.every,
            arguments.clients,
        )
    quarter = len(watched.memory) // 4
    before = float(np.median(watched.memory[quarter : quarter + 20]))
    after = float(np.median(watched.memory[-20:]))
    p50, p99, worst = np.percentile(watched.latencies, [50, 99, 100]) * 1000
    row = {
        "minutes": arguments.minutes,
        "good versions": len(good),
        "broken versions": max(good[-1], *final) - len(good),
        "requests": len(watched.latencies),
        "failed": len(watched.failures),
        "versions that answered": len(watched.versions),
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "worst ms": float(worst),
        "MiB after a quarter": before,
        "MiB at the end": after,
    }
    write_results(
        "serving_swap_soak",
        [row],
        command="python -m tests.benchmarks.serving_swap_soak",
        note=f"A new version every {arguments.every:g} s, every {BROKEN_EVERY}th with half of its "
        f"variables missing; {arguments.clients} clients, {arguments.rows} candidates a request.",
        where=where,
    )
    for failure in watched.failures[:5]:
        print(failure, file=sys.stderr)
    if watched.failures or not set(good) <= watched.versions or after > GROWTH * before:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
