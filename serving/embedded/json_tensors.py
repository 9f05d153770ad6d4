"""One nested JSON value to one tensor: shape by the first element of each level, then the fill."""

from itertools import chain

import numpy as np

from serving.embedded.errors import invalid_argument
from serving.embedded.json_dump import dump
from serving.embedded.json_elements import to_array
from serving.embedded.signatures import TensorSpec

MAX_RANK = 254  # TensorFlow's own


def to_tensor(spec: TensorSpec, value: object) -> np.ndarray:
    """The tensor a JSON value stands for.

    Raises:
        ServingError: INVALID_ARGUMENT for ragged lists, more than 254 levels, or values the
            dtype does not take; UNIMPLEMENTED for dtypes that JSON cannot fill.
    """
    regular = flatten_regular(value)
    if regular is None:
        shape = dense_shape(value)
        flat = _flatten_checked(value, shape)
    else:
        flat, shape = regular
    return to_array(spec, flat).reshape(shape)


def flatten_regular(value: object) -> tuple[list[object], tuple[int, ...]] | None:
    """Scalars and shape of a value whose lists are all regular; None when they are not."""
    if type(value) is not list:
        return [value], ()
    level, shape = value, [len(value)]
    while level and type(level[0]) is list:
        if len(shape) == MAX_RANK or set(map(type, level)) != {list}:
            return None
        size = len(level[0])
        if set(map(len, level)) != {size}:
            return None
        shape.append(size)
        level = list(chain.from_iterable(level))
    if list in set(map(type, level)):
        return None
    return level, tuple(shape)


def dense_shape(value: object) -> tuple[int, ...]:
    """Shape by the first element at each level.

    Raises:
        ServingError: INVALID_ARGUMENT for more than 254 levels.
    """
    shape: list[int] = []
    while type(value) is list:
        if len(shape) == MAX_RANK:
            raise invalid_argument(
                f"JSON Value: {dump(value)} is nested deeper than {MAX_RANK} levels"
            )
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _flatten_checked(value: object, shape: tuple[int, ...]) -> list[object]:
    rank = len(shape)
    flat: list[object] = []
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        item, level = pending.pop()
        if type(item) is not list:
            if level != rank:
                raise invalid_argument(
                    f"JSON Value: {dump(item)} found at incorrect level: {level} in the JSON "
                    f"DOM. Expected at level: {rank}"
                )
            flat.append(item)
            continue
        if level >= rank:
            raise invalid_argument(
                f"Encountered list at unexpected level: {level} expected < {rank}"
            )
        if len(item) != shape[level]:
            raise invalid_argument(
                f"Encountered list at unexpected size: {len(item)} at level: {level} expected "
                f"size: {shape[level]}"
            )
        pending.extend((child, level + 1) for child in reversed(item))
    return flat
