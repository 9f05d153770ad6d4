import numpy as np
import pytest
import tensorflow as tf

from serving.tensors import from_proto, to_proto

ARRAYS = [
    np.array([[1.5, np.nan, -np.inf]], np.float32),
    np.array([2**62, -1]),
    np.array([True, False]),
    np.array([[b"a", b"\xff\x00"], [b"", b"d"]], object),
    np.zeros((0, 3), np.float32),
    np.array(3.0, np.float64),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_round_trip_here_and_by_tensorflow(array):
    proto = to_proto(array)
    for decoded in (from_proto(proto), tf.make_ndarray(proto)):
        assert decoded.shape == array.shape
        np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_reads_tensorflows_encoding(array):
    np.testing.assert_array_equal(from_proto(tf.make_tensor_proto(array)), array)


def test_a_short_list_repeats_its_last_value():
    proto = tf.make_tensor_proto(np.float32(0.25), shape=[4])
    assert from_proto(proto).tolist() == [0.25] * 4
    proto.ClearField("float_val")
    proto.ClearField("tensor_content")
    assert from_proto(proto).tolist() == [0.0] * 4


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="dtype complex128 cannot be sent"):
        to_proto(np.array([1j]))
    with pytest.raises(ValueError, match="DT_HALF"):
        from_proto(tf.make_tensor_proto(np.float16(1)))
