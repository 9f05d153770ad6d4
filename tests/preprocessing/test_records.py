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
    encoded = RecordEncoder(features, 3).encode(IDS, VALUES, LABEL, weight, group)
    writer = ShardWriter(tmp_path / "x.tfrecord.gz")
    writer.write(encoded.stream(np.array([True, False, False])))
    writer.write(encoded.stream(np.array([1, 2])))
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
    every = slice(None)
    records = encoder.encode(ids, VALUES, LABEL)
    whole = records.digest(every)
    turned = encoder.encode(ids[::-1], VALUES[::-1], LABEL[::-1]).digest(every)
    alone = [encoder.encode(ids[[i]], VALUES[[i]], LABEL[[i]]).digest(every) for i in range(3)]
    assert whole == turned == sum(alone) % (1 << 64)
    assert records.digest(np.array([2, 0])) == (alone[0] + alone[2]) % (1 << 64)
    assert encoder.encode(ids, VALUES, 1 - LABEL).digest(every) != whole


def test_gzip_files_hold_no_time_stamp(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer = ShardWriter(tmp_path / name)
        writer.write(b"data")
        writer.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert gzip.decompress((tmp_path / "a").read_bytes()) == b"data"
