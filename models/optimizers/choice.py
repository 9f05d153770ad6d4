"""Whether tables are better updated whole or by row."""

# Rows of the table per id looked up in a batch, at which both ways take the same time; measured by
# `python -m tests.benchmarks.training_choice` (results/training_choice.md).
CROSSOVER = 2.0


def table_update(num_features: int, num_positions: int, batch_size: int) -> str:
    """ "whole" or "rows", whichever makes the faster step: the `table_update` of an optimizer.

    By row, a step costs what the B * P rows of the batch cost, each an access somewhere in memory.
    Whole, it costs one pass over the table, which is read in order; and then XLA can compile all
    of the step (`jit_compile=True`), which pays most where the rest is small. Both costs are
    proportional to the embedding size, so it does not matter here.

    Adagrad, SGD without momentum and exact Adam give the same weights both ways. Lazy Adam and
    momentum do not: whole, they are Keras's own rule; nor does FTRL on a table that does not
    start at zero.

    Args:
        num_features: rows of the table.
        num_positions: P, ids of an example.
        batch_size: B.

    Raises:
        ValueError: an argument below 1.
    """
    for name, value in locals().items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return "whole" if num_features <= CROSSOVER * num_positions * batch_size else "rows"
