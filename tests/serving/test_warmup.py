import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.session import SavedModelSession
from serving.signatures import SIGNATURES
from serving.tensors import from_proto
from serving.warmup import WARMUP_FILE


def read_records(directory):
    for record in tf.data.TFRecordDataset(str(directory / WARMUP_FILE)).as_numpy_iterator():
        yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request


def test_every_signature_is_warmed_and_every_record_runs(model_directory):
    sizes: dict[str, list[int]] = {}
    with SavedModelSession(model_directory) as session:
        for request in read_records(model_directory):
            assert request.model_spec.name == "ctr"
            signature = request.model_spec.signature_name
            inputs = {alias: from_proto(proto) for alias, proto in request.inputs.items()}
            assert sorted(inputs) == sorted(session.signature_defs[signature].inputs)
            probability = session.run(signature, inputs)["probability"]
            assert np.all((probability > 0) & (probability < 1))
            sizes.setdefault(signature, []).append(probability.size)
    assert sizes == {signature: [1, 16, 64] for signature in SIGNATURES}


def test_records_are_real_rows(model_directory, served):
    request = next(read_records(model_directory))
    assert request.inputs["user"].string_val[0] == served[2]["user"][0]
