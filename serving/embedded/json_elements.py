"""JSON values to tensor elements by dtype: what each dtype takes and what it refuses."""

import base64
import binascii
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from serving.embedded.errors import ServingError, invalid_argument, unimplemented
from serving.embedded.json_dump import dump, type_name
from serving.embedded.json_reader import encode_text
from serving.embedded.signatures import TensorSpec

_INT32 = (-(2**31), 2**31 - 1)
_INTEGER_RANGES = {
    tf.int32: _INT32,
    tf.int16: _INT32,
    tf.int8: _INT32,
    tf.uint8: _INT32,
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
_NUMBER_TYPES = {int, float}


def is_base64(value: object) -> bool:
    """Whether a value is exactly `{"b64": "<text>"}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def to_array(spec: TensorSpec, values: list[object]) -> np.ndarray:
    """A flat array of the spec's dtype from JSON scalars (or base64 objects).

    Raises:
        ServingError: INVALID_ARGUMENT for the first value the dtype does not take,
            UNIMPLEMENTED for dtypes that JSON cannot fill.
    """
    if not values:
        return np.zeros(0, dtype=spec.numpy_dtype)
    kinds = set(map(type, values))
    if spec.dtype in (tf.float32, tf.float64):
        if kinds <= _NUMBER_TYPES:
            with np.errstate(over="ignore"):
                return np.array(values, dtype=np.float64).astype(spec.numpy_dtype, copy=False)
    elif spec.dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[spec.dtype]
        if kinds == {int} and low <= min(values) and max(values) <= high:
            wide = np.uint64 if spec.dtype == tf.uint64 else np.int64
            return np.array(values, dtype=wide).astype(spec.numpy_dtype, copy=False)
    elif spec.dtype == tf.string:
        array = np.empty(len(values), dtype=object)
        if kinds == {str}:
            array[:] = _encode_all(values)
        else:
            array[:] = [_string(spec, value) for value in values]
        return array
    elif spec.dtype == tf.bool:
        if kinds == {bool}:
            return np.array(values, dtype=bool)
    else:
        first = dump(values[0])
        raise unimplemented(f"Conversion of JSON Value: {first} to type: {spec.dtype_name}")
    raise _first_refusal(spec, values)


def _encode_all(texts: list[str]) -> list[bytes]:
    """Bytes of every text; one call for all of them, unless one holds the separator itself."""
    encoded = encode_text("\0".join(texts)).split(b"\0")
    return encoded if len(encoded) == len(texts) else list(map(encode_text, texts))


def _string(spec: TensorSpec, value: object) -> bytes:
    if isinstance(value, str):
        return encode_text(value)
    if not isinstance(value, dict):
        raise _wrong_type(spec, value)
    if not is_base64(value):
        raise invalid_argument(f"JSON Value: {dump(value)} not formatted correctly for base64 data")
    return decode_base64(value["b64"])


def decode_base64(text: str) -> bytes:
    """Bytes of standard base64, padded or not.

    Raises:
        ServingError: INVALID_ARGUMENT `Unable to base64 decode`.
    """
    raw = encode_text(text).rstrip(b"=")
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _wrong_type(spec: TensorSpec, value: object) -> ServingError:
    return invalid_argument(
        f"JSON Value: {dump(value)} Type: {type_name(value)} is not of expected type: "
        f"{spec.dtype_name}"
    )


def _first_refusal(spec: TensorSpec, values: list[object]) -> ServingError:
    takes: Callable[[object], bool]
    if spec.dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[spec.dtype]

        def takes(value: object) -> bool:
            return type(value) is int and low <= value <= high
    elif spec.dtype == tf.bool:

        def takes(value: object) -> bool:
            return type(value) is bool
    else:

        def takes(value: object) -> bool:
            return type(value) in _NUMBER_TYPES

    return _wrong_type(spec, next(value for value in values if not takes(value)))
