"""Malformed requests in thousands: what a server of its own process answers, and its memory.

    python -m tests.benchmarks.serving_malformed

Fuzzed JSON and protobuf, wrong dtypes, shapes and sizes, signatures, models, versions and labels
that are not there, half of them over REST and half over gRPC. Requests that chance made right are
not counted. Ends with an AssertionError if an answer is none of the documented ones, or if the
server does not answer good requests rightly afterwards.
"""

import argparse
import random
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from tests.benchmarks.measure import machine, write_results
from tests.benchmarks.serving_setup import resident_mib, server_process
from tests.serving.embedded.calls import Calls
from tests.serving.embedded.malformed import check_grpc, check_rest, check_right
from tests.serving.embedded.savedmodels import Everything, save

WARM = 200


def answers(calls: Calls, count: int, draw: random.Random) -> Counter:
    """How often each status was the answer to `count` malformed requests."""
    found: Counter = Counter()
    for transport, check, right in (("REST", check_rest, "200"), ("gRPC", check_grpc, "OK")):
        refused = 0
        while refused < count // 2:
            status = check(calls, draw)
            if status != right:
                refused += 1
                found[transport, status] += 1
    return found


def main() -> None:
    """Write `results/serving_malformed.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="malformed requests")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    where, draw = machine(), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        save(Everything(), Path(folder) / "1")
        with (
            server_process(Path(folder), model="all") as (pid, grpc_port, rest_port),
            Calls(SimpleNamespace(grpc_port=grpc_port, rest_port=rest_port)) as calls,
        ):
            answers(calls, WARM, draw)
            before = resident_mib(pid)
            found = answers(calls, arguments.count, draw)
            after = resident_mib(pid)
            check_right(calls)
    write_results(
        "serving_malformed",
        [
            {"transport": transport, "status": status, "answers": count}
            for (transport, status), count in sorted(found.items())
        ],
        command=shlex.join(["python", "-m", "tests.benchmarks.serving_malformed", *sys.argv[1:]]),
        note=f"{sum(found.values()):,} malformed requests, every one answered with a documented "
        "status and no stack trace; good requests after them were answered rightly on both ports. "
        f"Memory of the server: {before:.0f} MiB before, {after:.0f} MiB after.",
        where=where,
    )


if __name__ == "__main__":
    main()
