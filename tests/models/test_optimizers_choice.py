"""The choice between updating tables whole and by row."""

import pytest

from models.optimizers.choice import table_update


def test_a_table_the_batch_mostly_covers_is_updated_whole():
    assert table_update(num_features=5_382, num_positions=10, batch_size=4096) == "whole"


def test_a_table_far_larger_than_the_batch_is_updated_by_row():
    assert table_update(num_features=1_000_000, num_positions=39, batch_size=512) == "rows"


def test_a_larger_batch_turns_to_the_whole_table():
    assert table_update(200_000, 39, 512) == "rows"
    assert table_update(200_000, 39, 4096) == "whole"


@pytest.mark.parametrize("arguments", [(0, 39, 512), (10, 0, 512), (10, 39, 0)])
def test_rejects_what_is_not_a_size(arguments):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        table_update(*arguments)
