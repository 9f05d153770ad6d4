"""Products of pairs of fields, pairs first and examples second: (F, B, D) to (P, B, D).

So picking a pair's fields moves whole blocks of memory. The pairs, all i < j or all i <= j, are
two arrays of length P with the first and the second field of each.
"""

from typing import Any

import numpy as np
from keras import ops

Pairs = tuple[np.ndarray, np.ndarray]


def products_of_pairs(by_field: Any, pairs: Pairs) -> Any:
    """v_i * v_j of each pair: (F, B, D) to (P, B, D)."""
    first, second = pairs
    return ops.take(by_field, first, axis=0) * ops.take(by_field, second, axis=0)


def gradient_of_products(by_field: Any, pairs: Pairs, upstream: Any) -> Any:
    """sum_j upstream_ij * v_j for every field i: (F, B, D) and (P, B, D) to (F, B, D)."""
    numbers, others = _partners(pairs)
    # One term for each partner, F rows each: XLA makes a single loop of all of them.
    terms = [
        ops.take(upstream, numbers[:, k], axis=0) * ops.take(by_field, others[:, k], axis=0)
        for k in range(others.shape[1])
    ]
    return sum(terms[1:], terms[0])


def _partners(pairs: Pairs) -> Pairs:
    """The pairs each field is in, by number, and the field each joins it to, both (F, K).

    A field's pair with itself counts twice, as the derivative of its square does.
    """
    first, second = pairs
    fields, others = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.lexsort((others, fields))
    numbers = np.tile(np.arange(len(first)), 2)[order]
    num_fields = fields.max() + 1
    return numbers.reshape(num_fields, -1), others[order].reshape(num_fields, -1)
