"""What the server benchmarks share: a model to serve, a request for it, and the server process."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

ROOT = Path(__file__).parents[2]
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
MODEL = "bench"


def newest_version(base: Path) -> Path:
    """The version folder with the highest number below a base path, or the folder itself."""
    if (base / "saved_model.pb").exists():
        return base
    return max((p for p in base.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def build_model(name: str, directory: Path, rows: int) -> predict_pb2.PredictRequest:
    """Save a model of the zoo in Criteo's layout with random weights; a request of raw rows."""
    import models
    from models.features import Features, Field
    from serving.saved_model import write_saved_model
    from serving.signatures import Scorer
    from tests.benchmarks.serving_latency import COLUMNS, FIELDS, Transform, raw_rows

    transform = Transform()
    features = Features(transform.num_features, tuple(Field(field) for field in FIELDS))
    model = models.build(name, features, embedding_dim=16)
    write_saved_model(directory, Scorer(model, transform, COLUMNS))
    return _request(raw_rows(rows))


def recorded_request(version: Path, rows: int) -> predict_pb2.PredictRequest:
    """A request of `rows` rows made of the first warm-up record of `serving_default`."""
    if not (version / WARMUP).is_file():
        raise ValueError(f"{version / WARMUP}: no such file; a request is made of its first record")
    for record in tf.compat.v1.io.tf_record_iterator(str(version / WARMUP)):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        if request.inputs and request.model_spec.signature_name in ("", "serving_default"):
            arrays = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            return _request({k: np.resize(v, (rows, *v.shape[1:])) for k, v in arrays.items()})
    raise ValueError(f"{version / WARMUP}: holds no Predict record of serving_default")


def _request(columns: dict[str, np.ndarray]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.output_filter.append("probability")
    for column, values in columns.items():
        request.inputs[column].CopyFrom(tf.make_tensor_proto(values))
    return request


@contextlib.contextmanager
def server_process(
    base: Path, flags: Sequence[str] = (), model: str = MODEL
) -> Iterator[tuple[int, int, int]]:
    """The embedded server as a program of its own: process id, gRPC port, REST port."""
    command = [sys.executable, "-m", "serving.embedded", "--port=auto", "--rest_api_port=auto"]
    command += [f"--model_name={model}", f"--model_base_path={base.absolute()}", *flags]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"gRPC on \S+:(\d+), REST on \S+:(\d+)", line)
        if not found:
            raise RuntimeError(f"the server did not start: {' '.join(command)}")
        yield process.pid, int(found[1]), int(found[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def resident_mib(pid: int) -> float:
    """Memory of a process in MiB, as Linux counts it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
