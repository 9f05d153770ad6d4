"""The warm-up file a server replays before a version becomes available.

`assets.extra/tf_serving_warmup_requests`: a TFRecord of PredictionLog messages. One failing record
fails the load, so the records are real rows that the exported model has already answered.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.columns import Column
from serving.signatures import SIGNATURES
from serving.tensors import to_proto

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
BATCH_SIZES = (1, 16, 100)  # one row, a short list, a page of candidates

Rows = Mapping[str, np.ndarray]


def write_warmup(directory: Path, name: str, columns: Sequence[Column], rows: Rows) -> int:
    """Write the warm-up file of the SavedModel in `directory`; returns the number of records."""
    path = directory / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    available = len(rows[columns[0].name])
    sizes = sorted({min(size, available) for size in BATCH_SIZES})
    records = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in SIGNATURES:
            for size in sizes:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for alias, array in request_inputs(signature, columns, rows, size).items():
                    request.inputs[alias].CopyFrom(to_proto(array))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
                records += 1
    return records


def request_inputs(
    signature: str, columns: Sequence[Column], rows: Rows, size: int
) -> dict[str, np.ndarray]:
    """The first `size` rows as the inputs of one signature.

    For `score_candidates` the first half of the columns is the context, taken from row 0.
    """
    batch = {column.name: rows[column.name][:size] for column in columns}
    if signature == "serialized_examples":
        return {"examples": serialize_examples(columns, batch)}
    if signature == "score_candidates":
        context = {column.name for column in columns[: len(columns) // 2]}
        return {
            name: values[None, :1] if name in context else values[None, :]
            for name, values in batch.items()
        }
    return batch


def serialize_examples(columns: Sequence[Column], rows: Rows) -> np.ndarray:
    """Rows as serialized tf.Example protos, object (B,)."""
    examples = []
    for values in zip(*(rows[column.name].tolist() for column in columns), strict=True):
        features = {}
        for column, value in zip(columns, values, strict=True):
            if column.dtype == "string":
                features[column.name] = tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[value])
                )
            else:
                features[column.name] = tf.train.Feature(
                    float_list=tf.train.FloatList(value=[value])
                )
        example = tf.train.Example(features=tf.train.Features(feature=features))
        examples.append(example.SerializeToString())
    return np.array(examples, object)
