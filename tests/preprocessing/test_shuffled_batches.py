"""Windows of records drawn from in a random order."""

import numpy as np
import tensorflow as tf

from preprocessing.shuffled_batches import shuffled_batches

RECORDS = np.array([b"%03d" % i for i in range(1000)])


def drawn(seed: int = 1, window: int = 250, drop: bool = False, epochs: int = 1) -> np.ndarray:
    """The batches of 100, (10, 100), of the last of some iterations."""
    sizes = [64] * 5 + [7] + [64] * 9 + [33, 64]  # a block is short where a file ends
    assert sum(sizes) == len(RECORDS)
    ends = np.cumsum(sizes)
    cut = tf.data.Dataset.from_tensor_slices((ends - sizes, ends))
    blocks = cut.map(lambda start, end: tf.constant(RECORDS)[start:end])
    data = shuffled_batches(blocks, window, 100, seed, drop, lambda records: records)
    for _ in range(epochs):
        batches = np.stack([batch.numpy() for batch in data])
    return batches


def test_every_record_comes_once_in_whole_batches() -> None:
    batches = drawn()
    assert batches.shape == (10, 100)
    np.testing.assert_array_equal(np.sort(batches.ravel()), RECORDS)


def test_a_window_is_of_whole_batches_and_mixed_throughout() -> None:
    batches = drawn()
    for first, last in ((0, 3), (3, 6), (6, 9), (9, 10)):
        found, window = batches[first:last].ravel(), RECORDS[100 * first : 100 * last]
        np.testing.assert_array_equal(np.sort(found), window)
        assert not (found == window).all()
    assert {int(record) // 100 for record in batches[0]} == {0, 1, 2}


def test_the_order_is_the_seeds_and_another_in_each_iteration() -> None:
    first, second = drawn(), drawn(epochs=2)
    np.testing.assert_array_equal(drawn(), first)
    np.testing.assert_array_equal(drawn(epochs=2), second)
    assert not (second == first).all()
    assert not (drawn(seed=2) == first).all()


def test_the_last_records_are_a_short_batch_or_left_out() -> None:
    blocks = tf.data.Dataset.from_tensor_slices(RECORDS[:130]).batch(64)
    for drop, sizes in ((False, [50, 50, 30]), (True, [50, 50])):
        data = shuffled_batches(blocks, 130, 50, 0, drop, lambda records: records)
        assert [len(batch) for batch in data] == sizes
        assert data.element_spec.shape.as_list() == [50 if drop else None]
