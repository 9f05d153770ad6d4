"""Warm-up: replays the recorded requests of a version before it may serve."""

import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.embedded import examples, multi_inference, predict
from serving.embedded.errors import ServingError, from_exception, invalid_argument, unimplemented
from serving.embedded.metrics import Metrics
from serving.embedded.servable import Servable, Work

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def replay(servable: Servable, iterations: int, metrics: Metrics) -> int:
    """Run every warm-up record of a version; a version without the file is fine.

    Args:
        servable: the version, loaded and not yet available.
        iterations: runs of each record.
        metrics: warm-up latency and record count go here.

    Returns:
        How many records were run.

    Raises:
        ServingError: the status of the first record that does not parse or run.
    """
    path = servable.model.path / WARMUP_FILE
    if not path.is_file():
        return 0
    started, status, count = time.perf_counter(), "OK", 0
    try:
        for count, record in enumerate(_records(path), start=1):
            if count > MAX_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
                )
            _run(servable, record, iterations)
    except Exception as error:
        failure = from_exception(error)
        status = failure.code
        raise failure from error
    finally:
        micros = (time.perf_counter() - started) * 1e6
        metrics.warmup_latency.observe(str(servable.model.path), status, amount=micros)
        metrics.warmup_records.add(str(servable.model.path), status, by=count)
    return count


def _records(path: Path) -> Iterator[bytes]:
    records = tf.compat.v1.io.tf_record_iterator(str(path))
    while True:
        try:
            record = next(records, None)
        except tf.errors.DataLossError as error:
            raise ServingError(
                "DATA_LOSS",
                f"{error.message}. Please verify your warmup data is in TFRecord format.",
            ) from error
        if record is None:
            return
        yield record


def _run(servable: Servable, record: bytes, iterations: int) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record: {error}") from error
    work = _work(servable, log)
    for _ in range(iterations if work else 0):
        if servable.batcher is None:
            outputs = servable.run(work)
        else:
            outputs = servable.batcher.submit(work, None).result()
        work.finish(outputs)


def _work(servable: Servable, log: prediction_log_pb2.PredictionLog) -> Work | None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        return None
    if kind == "predict_log":
        return predict.plan(servable, log.predict_log.request)
    if kind == "classify_log":
        return examples.plan_classify(servable, log.classify_log.request)
    if kind == "regress_log":
        return examples.plan_regress(servable, log.regress_log.request)
    if kind == "multi_inference_log":
        return multi_inference.plan(servable, log.multi_inference_log.request)
    raise unimplemented(f"Unsupported log_type for warmup: {kind}")
