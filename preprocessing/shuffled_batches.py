"""Batches of records in a random order, window by window."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def shuffled_batches(
    blocks: tf.data.Dataset,
    window: int,
    batch_size: int,
    seed: int,
    drop_remainder: bool,
    parse: Callable[[tf.Tensor], Any],
) -> tf.data.Dataset:
    """What `parse` makes of batches of records, drawn from each window of them without return.

    `Dataset.shuffle` hands over record by record, which costs as much as reading and parsing
    them together. Here records move in blocks until a batch of them is parsed. While one window
    is drawn from, the next is read, so that up to three are in memory.

    Args:
        blocks: tensors of records, (n,), n as the blocks come.
        window: records to mix, at least; the last window has what is left.
        batch_size: B.
        seed: the order is that of the seed, another in each iteration.
        drop_remainder: leaves out the last records that are fewer than a batch; the batches'
            shapes are then known.
        parse: maps records (B,) to a batch.
    """
    whole_batches = -(-window // batch_size) * batch_size
    windows = blocks.rebatch(whole_batches).prefetch(1)
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)

    def batches(records: tf.Tensor, own_seed: tf.Tensor) -> tf.data.Dataset:
        count = tf.size(records, tf.int64)
        order = tf.random.experimental.stateless_shuffle(tf.range(count), [seed, own_seed])
        number = (count if drop_remainder else count + batch_size - 1) // batch_size

        def batch(index: tf.Tensor) -> Any:
            drawn = order[index * batch_size : (index + 1) * batch_size]
            drawn = tf.ensure_shape(drawn, [batch_size if drop_remainder else None])
            return parse(tf.gather(records, drawn))

        return tf.data.Dataset.range(number).map(batch, tf.data.AUTOTUNE, deterministic=True)

    return tf.data.Dataset.zip(windows, seeds).flat_map(batches)
