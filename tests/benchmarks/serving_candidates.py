"""`score_candidates`, which sends the context once, beside `serving_default`, which repeats it.

python -m tests.benchmarks.serving_candidates
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import models
from models.features import Features, Field
from serving.client import Client
from serving.embedded import Server
from serving.saved_model import write_saved_model
from serving.signatures import Scorer
from tests.benchmarks.measure import machine, write_results
from tests.benchmarks.serving_latency import (
    CATEGORIES,
    COLUMNS,
    FIELDS,
    NUMBERS,
    Transform,
    raw_rows,
)

CANDIDATES = 500
CONTEXT = [*NUMBERS[:6], *CATEGORIES[:13]]


def measure(name: str) -> list[dict[str, object]]:
    """Bytes and latency of one request for CANDIDATES candidates, both ways, interleaved."""
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
    rows = [
        {
            "signature": way,
            "request bytes": sizes[way],
            "p50 ms": float(np.percentile(spent, 50)) * 1000,
            "p99 ms": float(np.percentile(spent, 99)) * 1000,
        }
        for way, spent in seconds.items()
    ]
    default, candidates = ([row[key] for key in list(row)[1:]] for row in rows)
    ratios = [many / one for one, many in zip(default, candidates, strict=True)]
    rows.append(dict(zip(rows[0], ["ratio", *ratios], strict=True)))
    return rows


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
    """Write `results/serving_candidates.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fm")
    arguments = parser.parse_args()
    where = machine()
    write_results(
        "serving_candidates",
        measure(arguments.model),
        command=shlex.join(["python", "-m", "tests.benchmarks.serving_candidates", *sys.argv[1:]]),
        note=f"{arguments.model}, {CANDIDATES} candidates, {len(CONTEXT)} of {len(FIELDS)} columns "
        "are context; gRPC, embedded server, client on the same machine, 200 interleaved pairs.",
        where=where,
    )


if __name__ == "__main__":
    main()
