"""Pre-training: embeddings and first-order weights of another run, copied by token.

Rows go from one table to the other by their token `field=value`, so the two datasets may differ in
fields, order and vocabulary; a feature the other run never saw keeps its fresh initial weights.
"""

import re
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.layers.field_aware_embedding import FieldAwareEmbedding
from pipeline.errors import PipelineError
from pipeline.rundir import Run

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def copy_by_token(source: Run, model: keras.Model, prepared: Any) -> str:
    """Copy what both models have into `model`; returns what was copied, in words.

    Args:
        source: a trained run; its prepared dataset must still be where it was.
        model: built, to be changed in place.
        prepared: the dataset of `model`.

    Raises:
        PipelineError: no feature in common, or tables of different shape.
    """
    return copy_between(
        source.load_model(), source.load_prepared().tokens(), model, prepared.tokens()
    )


def copy_between(
    source: keras.Model, source_tokens: list[str], model: keras.Model, tokens: list[str]
) -> str:
    """`copy_by_token` between two models and the tokens of their feature ids."""
    found = pc.index_in(pa.array(tokens), value_set=pa.array(source_tokens))
    origin = found.fill_null(-1).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(origin >= 0)
    if not len(rows):
        raise PipelineError("training.init_from: the two datasets have no feature in common")
    copied = []
    pairs = _tables(source), _tables(model)
    for name in pairs[1]:
        if name in pairs[0]:
            _copy_table(name, pairs[0][name], pairs[1][name], rows, origin[rows], tokens)
            copied.append(name)
    if not copied:
        raise PipelineError("training.init_from: the two models have no table in common")
    bias = [getattr(m.first_order, "bias", None) for m in (source, model)]
    if all(variable is not None for variable in bias):
        bias[1].assign(bias[0])
        copied.append("bias")
    return f"{', '.join(copied)} of {len(rows):,} of {len(tokens):,} features"


def _tables(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The lookup layers that pre-training knows, by role."""
    found = {}
    embedding = getattr(model, "embedding", None)
    if hasattr(embedding, "table"):
        found["embeddings"] = embedding
    if model.first_order is not None:
        found["first-order weights"] = model.first_order.weight
    return found


def _copy_table(
    name: str, source: Any, target: Any, rows: np.ndarray, origin: np.ndarray, tokens: list[str]
) -> None:
    old = keras.ops.convert_to_numpy(source.table.value)
    new = np.array(keras.ops.convert_to_numpy(target.table.value))
    aware = [isinstance(layer, FieldAwareEmbedding) for layer in (source, target)]
    if aware[0] != aware[1]:
        raise PipelineError(
            f"training.init_from: {name}: field-aware vectors and plain ones do not fit each other"
        )
    if aware[0]:
        _copy_field_aware(source, target, old, new, rows, origin, tokens)
    else:
        _check_width(name, old.shape[1], new.shape[1])
        new[rows] = old[origin]
    target.table.assign(new)


def _copy_field_aware(
    source: Any,
    target: Any,
    old: np.ndarray,
    new: np.ndarray,
    rows: np.ndarray,
    origin: np.ndarray,
    tokens: list[str],
) -> None:
    """The vector of feature i for field f, where both sides have field f (`new` is changed)."""
    width = target.vector_dim
    _check_width("embeddings", source.vector_dim, width)
    names = source.features.names, target.features.names
    field_of = np.array([_FIELD.match(tokens[row]).group() for row in rows])
    for field in sorted(set(field_of) & set(names[0])):
        mine = field_of == field
        others = [[n for n in side if n != field] for side in names]
        for place, other in enumerate(others[1]):
            if other in others[0]:
                there = others[0].index(other) * width
                here = place * width
                new[rows[mine], here : here + width] = old[origin[mine], there : there + width]


def _check_width(name: str, old: int, new: int) -> None:
    if old != new:
        raise PipelineError(
            f"training.init_from: {name} of dimension {old} do not fit a model of dimension {new}; "
            "set model.embedding_dim to the same number"
        )
