"""Tensors to the JSON text TensorFlow Serving prints: shortest floats, exact integers, raw bytes.

The text is built as latin-1 characters standing for bytes, because strings go out as the bytes they
are, UTF-8 or not.
"""

import base64
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from serving.embedded.errors import invalid_argument
from serving.embedded.signatures import TensorSpec

_ESCAPES = {code: f"\\u{code:04X}" for code in range(32)} | {
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}
_EXACT_DIGITS = {tf.float32: "%.9g", tf.float64: "%.17g"}
_INTEGERS = frozenset({tf.int8, tf.uint8, tf.int16, tf.int32, tf.uint32, tf.int64, tf.uint64})


def predictions(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> bytes:
    """Body of a row-form answer: one entry per row of the outputs' axis 0.

    Raises:
        ServingError: INVALID_ARGUMENT for outputs of rank 0, of different batch sizes or of a
            dtype that JSON cannot carry.
    """
    _check_batch(specs, arrays)
    columns = [_rows(spec, array) for spec, array in zip(specs, arrays, strict=True)]
    if len(columns) == 1:
        text = ", ".join(columns[0])
    else:
        names = [quote(spec.alias.encode()) for spec in specs]
        rows = zip(*columns, strict=True)
        text = ",\n        ".join(
            "{" + ", ".join(f"{n}: {v}" for n, v in zip(names, row, strict=True)) + "}"
            for row in rows
        )
        text = f"\n        {text}" if text else ""
    return f'{{\n    "predictions": [{text}\n    ]\n}}'.encode("latin-1")


def outputs(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> bytes:
    """Body of a column-form answer: the bare value of one output, an object of several."""
    texts = [_nested(spec, array) for spec, array in zip(specs, arrays, strict=True)]
    if len(texts) == 1:
        return f'{{\n    "outputs": {texts[0]}\n}}'.encode("latin-1")
    members = ",\n        ".join(
        f"{quote(spec.alias.encode())}: {text}" for spec, text in zip(specs, texts, strict=True)
    )
    return f'{{\n    "outputs": {{\n        {members}\n    }}\n}}'.encode("latin-1")


def results(entries: Sequence[str]) -> bytes:
    """Body of a Classify or Regress answer from entries already printed."""
    return f'{{\n    "results": [{", ".join(entries)}\n    ]\n}}'.encode("latin-1")


def floats(array: np.ndarray) -> list[str]:
    """Texts of the elements of a float32 or float64 array.

    Six significant digits when they read back as the same value, else 9 (float32) or 17
    (float64), always with a point or an exponent.
    """
    flat = array.ravel()
    values = flat.tolist()
    # One format of all the values is several times faster than one each; the rule is C's %g.
    texts = ("%g " * len(values) % tuple(values)).split()
    again = np.array(list(map(float, texts)))
    with np.errstate(over="ignore"):
        same = again.astype(flat.dtype) == flat
    if not same.all():
        exact = _EXACT_DIGITS[tf.dtypes.as_dtype(flat.dtype)]
        for i in np.flatnonzero(~same).tolist():
            texts[i] = exact % values[i] if math.isfinite(values[i]) else _special(values[i])
    return [t if "." in t or "e" in t or "N" in t or "I" in t else _pointed(t) for t in texts]


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _pointed(text: str) -> str:
    if text.endswith("inf"):  # infinities equal themselves, so they pass the first test
        return "-Infinity" if text.startswith("-") else "Infinity"
    return text + ".0"


def _check_batch(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> None:
    for spec, array in zip(specs, arrays, strict=True):
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {spec.alias} has no shape information")
        if len(array) != len(arrays[0]):
            raise invalid_argument(
                f"Tensor name: {spec.alias} has inconsistent batch size: {len(array)} expecting: "
                f"{len(arrays[0])}"
            )


def _rows(spec: TensorSpec, array: np.ndarray) -> list[str]:
    if array.size == 0:
        empty = _group([], array.shape[1:]) if array.ndim > 1 else ""
        return [empty] * len(array)
    return _join_to(_elements(spec, array), array.shape, 1)


def _nested(spec: TensorSpec, array: np.ndarray) -> str:
    texts = _elements(spec, array)
    if array.size == 0:
        return _group(texts, array.shape)
    return _join_to(texts, array.shape, 0)[0]


def _join_to(texts: list[str], shape: tuple[int, ...], keep: int) -> list[str]:
    """Join innermost axes into bracketed lists until `keep` axes are left."""
    for size in reversed(shape[keep:]):
        texts = [f"[{', '.join(texts[at : at + size])}]" for at in range(0, len(texts), size)]
    return texts


def _group(texts: list[str], shape: tuple[int, ...]) -> str:
    """An empty tensor as nested lists: `[2, 0]` is `[[], []]`."""
    if len(shape) == 1 or 0 in shape[:1]:
        return "[]"
    return f"[{', '.join([_group(texts, shape[1:])] * shape[0])}]"


def _elements(spec: TensorSpec, array: np.ndarray) -> list[str]:
    if spec.dtype in _EXACT_DIGITS:
        return floats(array)
    flat = array.ravel().tolist()
    if spec.dtype in _INTEGERS:
        return list(map(str, flat))
    if spec.dtype == tf.bool:
        return ["true" if value else "false" for value in flat]
    if spec.dtype == tf.string:
        if spec.alias.endswith("_bytes"):
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in flat]
        return [quote(value) for value in flat]
    raise invalid_argument(f"Failed to write JSON value for tensor type: {spec.dtype_name}")


def quote(value: bytes) -> str:
    """A byte string as a JSON string in this module's latin-1 text."""
    return '"' + value.decode("latin-1").translate(_ESCAPES) + '"'
