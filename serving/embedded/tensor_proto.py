"""TensorProto to NumPy and back, faster than TensorFlow's own helpers on small tensors."""

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.embedded.errors import invalid_argument
from serving.embedded.signatures import dtype_name

_TYPED_LISTS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.string: "string_val",
    tf.bool: "bool_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}
_BITS_AS_INTEGERS = (tf.float16, tf.bfloat16)
_COMPLEX_PARTS = {tf.complex64: np.float32, tf.complex128: np.float64}
# By number, because comparing and hashing DType objects is slow and every request does it.
_DTYPES = {dtype.as_datatype_enum: dtype for dtype in _TYPED_LISTS}
_STRING = tf.string.as_datatype_enum
# A few bytes can ask for a tensor of any size by repetition; this bounds what they can cost.
_MAX_REPEATED_ELEMENTS = 2**24
_MAX_RANK = 254  # TensorFlow's own


def decode(alias: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array a TensorProto stands for; strings become an object array of bytes.

    A typed list shorter than the shape repeats its last element, an empty one means zeros.

    Raises:
        ServingError: INVALID_ARGUMENT `tensor parsing error: <alias>` for anything malformed.
    """
    number = proto.dtype
    tensor_shape = proto.tensor_shape
    shape = [dim.size for dim in tensor_shape.dim]
    if number not in _DTYPES or tensor_shape.unknown_rank or len(shape) > _MAX_RANK:
        raise _malformed(alias)
    count = 1
    for size in shape:
        if size < 0:
            raise _malformed(alias)
        count *= size
    if proto.tensor_content:
        return _from_content(alias, proto.tensor_content, _DTYPES[number], shape, count)
    if count > _MAX_REPEATED_ELEMENTS and count > proto.ByteSize():
        raise _malformed(alias)
    if number == _STRING:
        flat = _strings(alias, proto.string_val, count)
    else:
        dtype = _DTYPES[number]
        flat = _numbers(alias, getattr(proto, _TYPED_LISTS[dtype]), dtype, count)
    return flat if len(shape) == 1 else flat.reshape(shape)


def type_name(enum: int) -> str:
    """C++ name of a dtype number: `float`, `int64`, `string`."""
    return dtype_name(tf.dtypes.as_dtype(enum))


def _malformed(alias: str) -> Exception:
    return invalid_argument(f"tensor parsing error: {alias}")


def _strings(alias: str, values: object, count: int) -> np.ndarray:
    flat = np.empty(count, dtype=object)
    given = len(values)
    if given == count:
        flat[:] = values[:]
    elif given > count:
        raise _malformed(alias)
    elif given == 0:
        flat.fill(b"")
    else:
        flat[:given] = values[:]
        flat[given:] = values[-1]
    return flat


def _numbers(alias: str, values: object, dtype: tf.DType, count: int) -> np.ndarray:
    numpy_dtype = np.dtype(dtype.as_numpy_dtype)
    # NumPy refuses what does not fit; TensorFlow keeps the low bits of small integers.
    if dtype in _COMPLEX_PARTS:
        if len(values) % 2:
            raise _malformed(alias)
        given = np.array(values, dtype=_COMPLEX_PARTS[dtype]).view(numpy_dtype)
    elif dtype in _BITS_AS_INTEGERS:
        given = np.array(values, dtype=np.int32).astype(np.uint16).view(numpy_dtype)
    elif _TYPED_LISTS[dtype] == "int_val":
        given = np.array(values, dtype=np.int32).astype(numpy_dtype, copy=False)
    else:
        given = np.array(values, dtype=numpy_dtype)
    if len(given) == count:
        return given
    if len(given) > count:
        raise _malformed(alias)
    flat = np.zeros(count, dtype=numpy_dtype)
    if len(given):
        flat[: len(given)] = given
        flat[len(given) :] = given[-1]
    return flat


def _from_content(
    alias: str, content: bytes, dtype: tf.DType, shape: list[int], count: int
) -> np.ndarray:
    if dtype == tf.string:
        return _string_content(alias, content, count).reshape(shape)
    numpy_dtype = np.dtype(dtype.as_numpy_dtype)
    if len(content) != count * numpy_dtype.itemsize:
        raise _malformed(alias)
    return np.frombuffer(content, dtype=numpy_dtype).reshape(shape)


def _string_content(alias: str, content: bytes, count: int) -> np.ndarray:
    """Strings in `tensor_content`: `count` varint lengths, then the bytes end to end."""
    lengths, at = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 35:
                raise _malformed(alias)
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise _malformed(alias)
    flat = np.empty(count, dtype=object)
    for index, length in enumerate(lengths):
        flat[index] = content[at : at + length]
        at += length
    return flat


def encode(array: np.ndarray, dtype: tf.DType, as_content: bool = False) -> tensor_pb2.TensorProto:
    """TensorProto of an output: typed lists, or `tensor_content` when asked for.

    Raises:
        ServingError: INTERNAL when the dtype has no protobuf form.
    """
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    shape = proto.tensor_shape
    for size in array.shape:
        shape.dim.add(size=size)
    if dtype == tf.string:
        proto.string_val.extend(array.ravel().tolist())
        return proto
    if as_content:
        proto.tensor_content = array.tobytes()
        return proto
    field = _TYPED_LISTS.get(dtype)
    if field is None:
        raise invalid_argument(f"Output of dtype {dtype_name(dtype)} has no TensorProto form")
    flat = array.ravel()
    if dtype in _BITS_AS_INTEGERS:
        flat = flat.view(np.uint16)
    elif dtype in _COMPLEX_PARTS:
        flat = flat.view(_COMPLEX_PARTS[dtype])
    getattr(proto, field).extend(flat.tolist())
    return proto
