"""NumPy arrays <-> TensorProto, without TensorFlow's slow general path for strings."""

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

_CONTENT_DTYPES = {
    np.dtype(np.float32): types_pb2.DT_FLOAT,
    np.dtype(np.float64): types_pb2.DT_DOUBLE,
    np.dtype(np.int64): types_pb2.DT_INT64,
    np.dtype(np.int32): types_pb2.DT_INT32,
    np.dtype(np.bool_): types_pb2.DT_BOOL,
}
# Typed list of each dtype TensorFlow Serving answers with by default.
_LISTS = {
    types_pb2.DT_FLOAT: ("float_val", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64),
    types_pb2.DT_INT64: ("int64_val", np.int64),
    types_pb2.DT_INT32: ("int_val", np.int32),
    types_pb2.DT_BOOL: ("bool_val", np.bool_),
    types_pb2.DT_STRING: ("string_val", object),
}


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Encode a float, integer, bool or object (bytes) array.

    Raises:
        ValueError: for any other dtype.
    """
    proto = tensor_pb2.TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
        return proto
    if array.dtype not in _CONTENT_DTYPES:
        raise ValueError(f"arrays of dtype {array.dtype} cannot be sent, expected bytes or numbers")
    proto.dtype = _CONTENT_DTYPES[array.dtype]
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    proto.tensor_content = little_endian.tobytes()
    return proto


def from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Decode either encoding: `tensor_content`, or a typed list whose last element may repeat.

    Raises:
        ValueError: for a dtype a scoring answer never has.
    """
    if proto.dtype not in _LISTS:
        raise ValueError(f"tensors of dtype {types_pb2.DataType.Name(proto.dtype)} are not read")
    field, dtype = _LISTS[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_content:
        content = np.frombuffer(proto.tensor_content, np.dtype(dtype).newbyteorder("<"))
        return content.astype(dtype).reshape(shape)
    values = np.array(getattr(proto, field), dtype)
    size = int(np.prod(shape, dtype=np.int64))
    if len(values) < size:
        fill = values[-1:] if len(values) else np.zeros(1, dtype)
        values = np.concatenate([values, np.repeat(fill, size - len(values))])
    return values.reshape(shape)
