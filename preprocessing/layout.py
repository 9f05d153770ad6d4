"""Which ids and positions a spec gives its fields, before any data is seen.

Ids: one special id per field, in field order (a numeric field's own id; a categorical field's
"infrequent or unseen"), then the fixed blocks of hashed and bucketed fields, then the vocabulary
by descending count. Positions: one per field, `max_values` for a multi-valued one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from preprocessing.schema import DatasetSpec, SpecError, column_of, is_number


@dataclass(frozen=True)
class Slot:
    """One field's place: its positions `start:stop`, special id, fixed ids and constants."""

    field: Any
    index: int
    start: int
    stop: int
    fixed_start: int
    fixed_size: int
    constants: slice

    @property
    def numeric(self) -> bool:
        """True if the position carries a number."""
        return is_number(self.field)

    @property
    def counted(self) -> bool:
        """True if the field's values are counted into the shared vocabulary."""
        if self.field.kind != "numeric":
            return not self.field.hash_buckets
        return self.field.missing == "token" or (
            self.field.as_category and not self.field.hash_buckets
        )


@dataclass(frozen=True)
class Layout:
    """All slots of a spec; `vocabulary_start` is the first id of the shared vocabulary."""

    slots: tuple[Slot, ...]
    num_positions: int
    vocabulary_start: int
    num_constants: int

    @classmethod
    def of(cls, spec: DatasetSpec) -> Layout:
        slots, position, fixed, constant = [], 0, len(spec.fields), 0
        for index, field in enumerate(spec.fields):
            width = field.max_values if field.kind == "multivalued" else 1
            size, count = _fixed_size(field), _constant_count(field)
            constants = slice(constant, constant + count)
            slots.append(Slot(field, index, position, position + width, fixed, size, constants))
            position, fixed, constant = position + width, fixed + size, constant + count
        return cls(tuple(slots), position, fixed, constant)

    def fixed_tokens(self) -> list[str]:
        """Names of the ids before the vocabulary: `field`, then `field#bucket`, `field~bucket`."""
        tokens = [slot.field.name for slot in self.slots]
        for slot in self.slots:
            mark = "#" if slot.field.hash_buckets else "~"
            tokens += [f"{slot.field.name}{mark}{i}" for i in range(slot.fixed_size)]
        return tokens


def _fixed_size(field: Any) -> int:
    if field.kind == "numeric" and field.transform == "quantiles":
        return field.buckets
    return field.hash_buckets or 0


def _constant_count(field: Any) -> int:
    if field.kind != "numeric":
        return 0
    if field.transform == "quantiles":
        return field.buckets - 1
    return 2 if field.transform in ("z_score", "min_max") else 0


def served_name(column: str) -> str:
    """A source column's name as a SavedModel input: letters, digits, `_` only."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", column)
    return f"c_{name}" if not name or name[0].isdigit() else name


def served_columns(spec: DatasetSpec) -> dict[str, tuple[str, str]]:
    """Served name -> (source column, type). Raises SpecError if two names clash."""
    served: dict[str, tuple[str, str]] = {}
    for column, kind in spec.columns().items():
        name = served_name(column)
        if name in served:
            raise SpecError(
                f"fields: columns '{served[name][0]}' and '{column}' would both be served as"
                f" '{name}': rename one"
            )
        served[name] = (column, kind)
    return served


def input_of(field: Any) -> str:
    """The served column a field reads."""
    return served_name(column_of(field))
