"""A prepared dataset of random rows, in the files and records `preprocessing` writes."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from preprocessing.prepared import FORMAT_VERSION, MANIFEST, PreparedDataset

_SHARDS = 4


def write_prepared(folder: Path, rows: int, num_features: int, fields: int) -> PreparedDataset:
    """Writes a training split of `rows` rows, one id per field, and its manifest to `folder`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = [f"train-{shard:05d}-of-{_SHARDS:05d}.tfrecord.gz" for shard in range(_SHARDS)]
    for shard, name in enumerate(files):
        count = rows // _SHARDS + (shard < rows % _SHARDS)
        ids = rng.integers(0, num_features, (count, fields))
        labels = rng.integers(0, 2, count)
        with tf.io.TFRecordWriter(str(folder / name), "GZIP") as writer:
            for row, label in zip(ids, labels, strict=True):
                writer.write(_example(row, label).SerializeToString())
    manifest = {
        "format_version": FORMAT_VERSION,
        "num_features": num_features,
        "num_positions": fields,
        "fields": [{"name": f"f{i}", "start": i, "stop": i + 1} for i in range(fields)],
        "spec": {},
        "splits": {"train": {"rows": rows, "files": files}},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return PreparedDataset.load(folder)


def _example(ids: np.ndarray, label: int) -> tf.train.Example:
    def floats(values: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    id_feature = tf.train.Feature(int64_list=tf.train.Int64List(value=ids))
    features = {"ids": id_feature, "values": floats(np.ones(len(ids))), "label": floats([label])}
    return tf.train.Example(features=tf.train.Features(feature=features))
