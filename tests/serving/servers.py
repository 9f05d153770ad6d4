"""Running model servers for the client's tests: the embedded one, and a real one where there is.

The real one is `tensorflow_model_server` from PATH, or the program CTR_MODEL_SERVER names.
"""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.embedded import Server
from serving.server_config import BatchingParameters

REAL_SERVER = os.environ.get("CTR_MODEL_SERVER") or shutil.which("tensorflow_model_server")
KINDS = ["embedded", *(["tensorflow_model_server"] if REAL_SERVER else [])]


@dataclass(frozen=True)
class Running:
    """Where a server answers."""

    kind: str
    grpc: str
    rest: str

    def address(self, transport: str) -> str:
        return self.grpc if transport == "grpc" else self.rest


@contextlib.contextmanager
def run_server(kind: str, repository: Path, name: str, batching: bool = False) -> Iterator[Running]:
    """Serve one model of a repository."""
    serve = embedded if kind == "embedded" else real
    with serve(repository, name, batching) as running:
        yield running


@contextlib.contextmanager
def embedded(repository: Path, name: str, batching: bool) -> Iterator[Running]:
    parameters = BatchingParameters(
        max_batch_size=1024, batch_timeout_micros=5000, pad_variable_length_inputs=True
    )
    options = {"batching": parameters} if batching else {}
    with Server.for_model(repository / name, name, **options) as server:
        yield Running(
            kind="embedded",
            grpc=f"127.0.0.1:{server.grpc_port}",
            rest=f"http://127.0.0.1:{server.rest_port}",
        )


@contextlib.contextmanager
def real(repository: Path, name: str, batching: bool) -> Iterator[Running]:
    port, rest_port = _free_port(), _free_port()
    command = [
        REAL_SERVER,
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={name}",
    ]
    command += [f"--model_base_path={repository / name}"]
    if batching:
        parameters = repository / "batching.txt"
        parameters.write_text(
            "max_batch_size { value: 1024 }\nbatch_timeout_micros { value: 5000 }\n"
            "pad_variable_length_inputs: true\n"
        )
        command += ["--enable_batching", f"--batching_parameters_file={parameters}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Running(
            kind="tensorflow_model_server",
            grpc=f"127.0.0.1:{port}",
            rest=f"http://127.0.0.1:{rest_port}",
        )
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
