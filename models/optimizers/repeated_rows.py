"""The rows that a batch looks up more than once: their slices summed, outside XLA and inside."""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

# Operations between ids and a lookup that leave them what they are, and which of their inputs the
# ids are. SelectV2 is in `keras.ops.take`, which lets negative numbers count from the end; ids
# never are.
_KEEPS_IDS = {"Cast": 0, "Identity": 0, "Reshape": 0, "SelectV2": 2}


class RepeatedRows:
    """Sums a gradient's slices that fall on the same row, so that each row is written once.

    Outside XLA `tf.unique` names the distinct rows. XLA wants shapes that do not depend on the
    ids. There, each position of the lookup writes its number to its row's entry of a scratch
    vector and reads the entry again: the number it finds is that of the row's *owner*. Slices are
    summed at the owners, and all other positions get an index past the end of the table, which
    XLA's scatter leaves out. The scratch vector, 4 bytes per row of the table, stays between
    steps; what an earlier step left in it is never read.

    Tables are mostly looked up by the same ids, so what is found is kept until `forget`.
    """

    def __init__(self) -> None:
        self._scratch: dict[int, tf.Variable] = {}
        self._found: dict[tuple[Any, int | None], tuple[tf.Tensor, ...]] = {}

    def forget(self) -> None:
        """To be called at the start of a step."""
        self._found = {}

    def merge(self, gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.IndexedSlices]:
        """Sums the slices on the same row.

        Args:
            gradient: slices (N, ...) with indices (N,), rows repeated as a batch repeats its
                features.

        Returns:
            The rows (U,) to read for the summed slices, and these: (U, ...) with indices that name
            each row once. Inside XLA U is N, and some indices name no row.
        """
        # int32 halves the work of the hash table inside `tf.unique`.
        ids = tf.cast(gradient.indices, tf.int32)
        count = _row_count(gradient) if _in_xla() else None
        key = (_source(gradient.indices).ref(), count)
        if key not in self._found:
            self._found[key] = _distinct(ids) if count is None else self._owners(ids, count)
        rows, indices, where = self._found[key]
        values = tf.math.unsorted_segment_sum(gradient.values, where, tf.size(indices))
        return rows, tf.IndexedSlices(values, indices, gradient.dense_shape)

    def _owners(self, ids: tf.Tensor, count: int) -> tuple[tf.Tensor, ...]:
        """As `_distinct`, in fixed shapes. Rows are read by the ids of the lookup, as in the
        forward pass, so that XLA reads them once."""
        if count not in self._scratch:
            with tf.init_scope():
                self._scratch[count] = tf.Variable(tf.zeros((count,), tf.int32), trainable=False)
        scratch, numbers = self._scratch[count], tf.range(tf.size(ids))
        scratch.scatter_update(tf.IndexedSlices(numbers, ids))
        owners = scratch.sparse_read(ids)
        return ids, tf.where(owners == numbers, ids, count), owners


def _distinct(ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The rows to read, the rows to write, and the place of each of `ids` among these."""
    rows, where = tf.unique(ids)
    return rows, rows, where


def _in_xla() -> bool:
    """Whether what is being traced will be compiled by XLA (`jit_compile=True`)."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _row_count(gradient: tf.IndexedSlices) -> int | None:
    """Rows of the table a gradient belongs to, where the graph says so."""
    shape = tf.get_static_value(gradient.dense_shape)
    return None if shape is None else int(shape[0])


def _source(indices: tf.Tensor) -> tf.Tensor:
    """The ids that the indices of a lookup were made of; eagerly these themselves."""
    if tf.executing_eagerly():
        return indices
    while indices.op.type in _KEEPS_IDS:
        indices = indices.op.inputs[_KEEPS_IDS[indices.op.type]]
    return indices
