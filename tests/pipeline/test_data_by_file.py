"""Workers read files of their own where there are enough: disjoint, equal shares, any position."""

from collections import Counter

import pytest

from pipeline.config import DataConfig
from pipeline.data import FILES_A_WORKER, TrainingData

BATCH = 64


@pytest.fixture(scope="module")
def data(many_files) -> TrainingData:
    return TrainingData(
        many_files, BATCH, 3, DataConfig(spec="x", in_memory=False), True, False, True
    )


def batches(dataset) -> list[list[tuple[int, ...]]]:
    return [[tuple(row) for row in x["ids"].numpy()] for x, _ in dataset]


def test_shares_of_an_epoch_are_equal_and_of_other_files(data, many_files) -> None:
    shares = [batches(data.share(0, 1, (worker, 2), BATCH // 2)) for worker in (0, 1)]
    for share in shares:
        assert [len(batch) for batch in share] == [BATCH // 2] * data.steps_per_epoch
    everything = Counter(map(tuple, many_files.arrays("train")["ids"]))
    first, second = (Counter(row for batch in share for row in batch) for share in shares)
    # Every row of the log has an id of its own: a share has hardly any row twice, and no row of
    # the other's files, but for the one that began again.
    assert set(first) | set(second) <= set(everything)
    both = set(first) & set(second)
    assert len(both) <= 0.1 * len(everything)
    assert len(set(first) | set(second)) >= 0.85 * len(everything)


def test_the_next_epoch_deals_the_files_anew(data) -> None:
    steps = data.steps_per_epoch
    rows = batches(data.share(0, 2, (0, 2), BATCH // 2))
    one, other = ({row for batch in part for row in batch} for part in (rows[:steps], rows[steps:]))
    assert 0.2 < len(one & other) / len(one) < 0.8


@pytest.mark.parametrize("first", [5, 31])
def test_a_share_begins_at_any_step(data, first: int) -> None:
    everything = batches(data.share(0, 2, (1, 2), BATCH // 2))
    assert batches(data.share(first, 2, (1, 2), BATCH // 2)) == everything[first:]


def test_by_file_needs_several_workers_enough_files_and_batches_they_can_share(data) -> None:
    files = len(data.prepared.manifest["splits"]["train"]["files"])
    assert data.by_file(2, 2)
    assert not data.by_file(1, 2)
    assert not data.by_file(2, 3)
    assert not data.by_file(files // FILES_A_WORKER + 1, 2)
