"""Records written in bulk are ordinary tf.Examples in ordinary TFRecord files."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from preprocessing.records import RecordEncoder, ShardWriter

IDS = np.array([[0, 127, 128], [16383, 16384, 99], [2_097_151, 5, 1]])
VALUES = np.array([[1, 0.5, 0], [-1, 2.25, 1], [0, 0, 3]], np.float32)
LABEL = np.array([1, 0, 1], np.float32)


@pytest.mark.parametrize("features", [2_097_152, 2_097_153, 1 << 27])
def test_protobuf_reads_what_was_written(features: int, tmp_path: Path) -> None:
    weight = np.array([0.5, 1, 2], np.float32)
    group = pa.array(["a", "", "aü"])
    stream, _ = RecordEncoder(features, 3).encode(IDS, VALUES, LABEL, weight, group)
    writer = ShardWriter(tmp_path / "x.tfrecord.gz")
    writer.write(stream)
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["x.tfrecord.gz"]
    records = list(tf.data.TFRecordDataset(str(tmp_path / "x.tfrecord.gz"), "GZIP"))
    assert len(records) == 3
    for i, record in enumerate(records):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        assert list(feature["ids"].int64_list.value) == IDS[i].tolist()
        assert list(feature["values"].float_list.value) == VALUES[i].tolist()
        assert feature["label"].float_list.value == [LABEL[i]]
        assert feature["weight"].float_list.value == [weight[i]]
        assert feature["group"].bytes_list.value == [group[i].as_py().encode()]


def test_digest_ignores_order_and_nothing_else() -> None:
    encoder = RecordEncoder(1000, 3)
    ids = IDS % 1000
    _, whole = encoder.encode(ids, VALUES, LABEL)
    _, turned = encoder.encode(ids[::-1], VALUES[::-1], LABEL[::-1])
    parts = sum(
        encoder.encode(ids[i : i + 1], VALUES[i : i + 1], LABEL[i : i + 1])[1] for i in range(3)
    )
    assert whole == turned == parts % (1 << 64)
    _, other = encoder.encode(ids, VALUES, 1 - LABEL)
    assert other != whole


def test_gzip_files_hold_no_time_stamp(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer = ShardWriter(tmp_path / name)
        writer.write(b"data")
        writer.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert gzip.decompress((tmp_path / "a").read_bytes()) == b"data"
