"""Which interactions a model holds important: the mean weight of each pair of fields."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from models.layers.pairs import pair_indices
from pipeline.compiled import compiled

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

_ROWS = 20_000
_EXAMPLES = 3


def mean_pairs(
    model: keras.Model, prepared: "PreparedDataset", split: str = "validation", rows: int = _ROWS
) -> dict[str, Any]:
    """Means over a split's first rows: weights as they are, contributions as absolute values.

    Returns:
        `fields` (F names); for each `order_k_weights` and `order_k_contributions` that the model
        explains a matrix (F, F) as lists; `field_norms` (F, F) where it has a field aspect (IFM);
        and `examples`: weights and contributions of the split's first positives.
    """
    arrays = prepared.arrays(split)
    ids, values = arrays["ids"][:rows], arrays["values"][:rows]
    explain = compiled(model, model.explain)
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(ids), 1024):
        part = slice(start, start + 1024)
        found = explain({"ids": ids[part], "values": values[part]})
        for name, matrix in found.items():
            if name.startswith("order_"):
                matrix = np.abs(matrix) if name.endswith("contributions") else matrix
                sums[name] = sums.get(name, 0.0) + matrix.sum(axis=0)
    pairs = {"fields": [field["name"] for field in prepared.fields]}
    pairs |= {name: _plain(total / len(ids)) for name, total in sums.items()}
    norms = _field_norms(model, len(pairs["fields"]))
    if norms is not None:
        pairs["field_norms"] = _plain(norms)
    positives = np.flatnonzero(arrays["label"][:rows] > 0)[:_EXAMPLES]
    found = explain({"ids": ids[positives], "values": values[positives]})
    kept = ("logit", "order_2_weights", "order_2_contributions")
    pairs["examples"] = {name: _plain(found[name]) for name in kept if name in found}
    return pairs


def _field_norms(model: keras.Model, num_fields: int) -> np.ndarray | None:
    """||F_ij|| of IFM's and INN's field aspect, symmetric (F, F) with zeros on the diagonal."""
    field = getattr(getattr(model, "interaction", None), "field", None)
    if not hasattr(field, "importance"):
        return None
    norms = np.zeros((num_fields, num_fields))
    norms[pair_indices(num_fields)] = np.linalg.norm(np.asarray(field.importance()), axis=-1)
    return norms + norms.T


def _plain(values: Any) -> Any:
    """Lists of numbers of five significant digits: contributions may all be very small."""
    if np.ndim(values):
        return [_plain(value) for value in values]
    return float(f"{float(values):.5g}")
