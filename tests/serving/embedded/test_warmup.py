"""Protocol section 8.6: warm-up records are replayed before a version is available."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.embedded import ServingError
from serving.embedded.loader import ServableLoader
from serving.embedded.metrics import Metrics
from serving.embedded.options import ServerOptions
from serving.server_config import BatchingParameters
from tests.serving.embedded import test_examples
from tests.serving.embedded.calls import predict_request


@pytest.fixture
def version(half, tmp_path):
    """A copy of one version of `half` for a test to add records to."""
    directory = tmp_path / "half" / "1"
    shutil.copytree(half / "1", directory)
    return directory


def predict_log(**inputs) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("any name", version=99, **inputs))
    return log.SerializeToString()


GOOD = predict_log(x=np.array([1.0, 2.0], np.float32))


def write(directory, records) -> None:
    (directory / "assets.extra").mkdir(exist_ok=True)
    path = directory / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def load(directory, **options):
    """Runs of the graph during the load, from the metrics."""
    metrics = Metrics()
    loader = ServableLoader(ServerOptions(**options), metrics)
    loader.load("half", 1, directory).close()
    loader.close()
    return metrics


def failure(directory, **options) -> ServingError:
    with pytest.raises(ServingError) as caught:
        load(directory, **options)
    return caught.value


def runs(metrics: Metrics) -> int:
    return metrics.runtime_latency.count("half", "Predict", "TF1")


def test_records_are_replayed(version):
    write(version, [GOOD, GOOD, b""])  # a record with no kind set is skipped
    metrics = load(version)
    assert runs(metrics) == 2
    assert metrics.warmup_records.value(str(version), "OK") == 3
    assert metrics.warmup_latency.count(str(version), "OK") == 1


def test_iterations_and_switch(version):
    write(version, [GOOD])
    assert runs(load(version, warmup_iterations=3)) == 3
    assert runs(load(version, warmup=False)) == 0


def test_no_file(version):
    assert runs(load(version)) == 0


def test_through_the_batching_queues(version):
    write(version, [GOOD])
    batching = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(8,))
    metrics = load(version, batching=batching)
    assert metrics.processed_batch_size.count("batch_threads") == 1


def test_a_failing_record_fails_the_load(version):
    write(version, [GOOD, predict_log(wrong=np.zeros(1, np.float32))])
    error = failure(version)
    assert error.code == "INVALID_ARGUMENT"
    assert "Inputs contains invalid name" in error.message


def test_a_record_that_does_not_parse(version):
    write(version, [b"\xff\xff\xff"])
    assert failure(version).message.startswith("Failed to parse warmup record: ")


def test_a_file_that_is_no_tfrecord(version):
    (version / "assets.extra").mkdir()
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.write_bytes(b"this is not a record file")
    error = failure(version)
    assert error.code == "DATA_LOSS"
    assert error.message.endswith("Please verify your warmup data is in TFRecord format.")


def test_a_thousand_records_at_most(version):
    write(version, [b""] * 1000)
    load(version)
    write(version, [b""] * 1001)
    assert failure(version).message.startswith(
        "Number of warmup records exceeds the maximum (1000) at "
    )


def test_unsupported_kind(version):
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.SetInParent()
    write(version, [log.SerializeToString()])
    assert failure(version).code == "UNIMPLEMENTED"


def test_all_kinds_of_records(everything, tmp_path):
    directory = tmp_path / "1"
    shutil.copytree(everything / "00000123", directory)
    logs = [prediction_log_pb2.PredictionLog() for _ in range(3)]
    example = test_examples.example
    request = test_examples.TestGrpc.regress_request("regress", example(x=1.0))
    logs[0].regress_log.request.CopyFrom(request)
    logs[1].classify_log.request.model_spec.signature_name = "classify"
    logs[1].classify_log.request.input.example_list.examples.append(example(x=0.5, s=b"a"))
    task = ("any", "regress", test_examples.REGRESS)
    request = test_examples.TestMultiInference.request(task)
    logs[2].multi_inference_log.request.CopyFrom(request)
    write(directory, [log.SerializeToString() for log in logs])
    metrics = load(directory)
    for api in ("Regress", "Classify", "MultiInference"):
        assert metrics.runtime_latency.count("half", api, "TF1") == 1
