"""The embedded server as a child process on free ports, for the demo, the gate and the tests."""

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError

_ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 30
_ADDRESS = re.compile(r"serving gRPC on (\S+), REST on (\S+)")


@dataclass(frozen=True)
class Addresses:
    """Where a running server listens."""

    grpc: str
    rest: str


@contextlib.contextmanager
def serving(flags: Sequence[str]) -> Iterator[Addresses]:
    """Start a server on ports of its choice, yield its addresses, drain and stop it.

    Raises PipelineError with the server's own words where it does not start.
    """
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "serve",
        "--port=auto",
        "--rest_api_port=auto",
        *flags,
    ]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield _wait(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen, log: object) -> Addresses:
    for line in process.stdout:
        found = _ADDRESS.search(line)
        if found:
            return Addresses(found[1], f"http://{found[2]}")
    process.wait()
    log.seek(0)
    last = log.read().strip().splitlines() or ["it said nothing"]
    raise PipelineError(f"the server did not start: {last[-1]}")
