"""Joining the feeds of several requests on axis 0, padding them, and cutting the outputs apart."""

from collections.abc import Sequence

import numpy as np

from serving.embedded.errors import failed_precondition, invalid_argument

_MAX_PAD_RANK = 6


def count_rows(feeds: Sequence[np.ndarray]) -> int:
    """Rows of one request.

    Raises:
        ServingError: INVALID_ARGUMENT for no inputs, a scalar, or sizes that differ.
    """
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    if any(feed.ndim == 0 for feed in feeds):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    rows = len(feeds[0])
    if any(len(feed) != rows for feed in feeds):
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return rows


def execution_size(rows: int, allowed: Sequence[int]) -> int:
    """The next allowed batch size, or the number of rows where none is set."""
    return next((size for size in allowed if size >= rows), rows)


def join(
    names: Sequence[str], tasks: Sequence[Sequence[np.ndarray]], padding: int, pad_lengths: bool
) -> list[np.ndarray]:
    """One feed per input of the tasks' feeds put together.

    Args:
        names: input tensor names, for messages.
        tasks: feeds of every task.
        padding: rows to add at the end, copies of the first row of the last task.
        pad_lengths: whether inputs of different length are padded to the longest.

    Raises:
        ServingError: FAILED_PRECONDITION for inputs that do not fit together.
    """
    joined = []
    for index, name in enumerate(names):
        parts = [feeds[index] for feeds in tasks]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            parts = _same_length(name, parts, pad_lengths)
        if padding:
            parts.append(np.repeat(parts[-1][:1], padding, axis=0))
        joined.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return joined


def _same_length(name: str, parts: list[np.ndarray], pad_lengths: bool) -> list[np.ndarray]:
    if not pad_lengths:
        raise failed_precondition(
            f"Tensors with name '{name}' from different tasks have different shapes and padding "
            "is turned off. Set pad_variable_length_inputs to true, or ensure that all tensors "
            "with the same name have equal dimensions starting with the first dim."
        )
    rank = parts[0].ndim
    if any(part.ndim != rank for part in parts) or rank > _MAX_PAD_RANK:
        raise invalid_argument(
            f"Tensors with name '{name}' can be padded when all have the same rank, from 1 to "
            f"{_MAX_PAD_RANK}"
        )
    longest = np.max([part.shape[1:] for part in parts], axis=0)
    return [_padded(part, longest) for part in parts]


def _padded(part: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    # TensorFlow Serving fills with the tensor's own first element, not with zero.
    empty = b"" if part.dtype == object else 0
    filler = part.flat[0] if part.size else empty
    wide = np.full((len(part), *lengths), filler, dtype=part.dtype)
    wide[tuple(slice(size) for size in part.shape)] = part
    return wide


def split(outputs: Sequence[np.ndarray], sizes: Sequence[int], total: int) -> list[list]:
    """Outputs of every task, padding cut off.

    Args:
        outputs: arrays of the joint run.
        sizes: rows of every task.
        total: rows of the joint run, padding included.

    Raises:
        ServingError: FAILED_PRECONDITION for outputs that have no row per input row.
    """
    for output in outputs:
        if output.ndim == 0:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(output) != total:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors"
            )
    ends = np.cumsum(sizes).tolist()
    return [
        [output[end - size : end] for output in outputs]
        for size, end in zip(sizes, ends, strict=True)
    ]
