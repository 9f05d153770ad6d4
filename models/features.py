"""What a model needs to know of a dataset: how many feature ids, which fields, which positions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """One field of an instance.

    Args:
        name: name shown in explanations.
        positions: how many (id, value) slots the field has in a row: 1 for a categorical or
            numeric field, `max_values` for a multi-valued one.
    """

    name: str
    positions: int = 1


@dataclass(frozen=True)
class Features:
    """The layout of one instance: F ordered fields over P positions and `num_features` ids.

    A row is a libFM-style sparse vector: positions p = 1..P carry a global feature id in
    [0, num_features) and a value x. Position ranges follow the order of the fields. A padded
    position has x = 0.

    Args:
        num_features: number of rows of an embedding table.
        fields: the fields in order.

    Raises:
        ValueError: no field, a field without positions, a repeated name or no feature id.
    """

    num_features: int
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if self.num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {self.num_features}")
        if not self.fields:
            raise ValueError("a model needs at least one field, got none")
        empty = [field.name for field in self.fields if field.positions < 1]
        if empty:
            raise ValueError(f"every field needs at least one position, got none for {empty}")
        names = self.names
        if len(set(names)) != len(names):
            raise ValueError(f"field names must differ, got {names}")

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.fields]

    @property
    def num_fields(self) -> int:
        return len(self.fields)

    @property
    def num_positions(self) -> int:
        return sum(field.positions for field in self.fields)

    @classmethod
    def from_fields(cls, num_features: int, fields: Iterable[Mapping[str, Any]]) -> "Features":
        """Reads the `fields` of a prepared dataset's manifest (`name`, `start`, `stop`)."""
        return cls(
            num_features,
            tuple(Field(field["name"], field["stop"] - field["start"]) for field in fields),
        )

    def to_config(self) -> dict[str, Any]:
        """A JSON-ready form; `from_config` reads it back."""
        return {
            "num_features": self.num_features,
            "fields": [[field.name, field.positions] for field in self.fields],
        }

    @classmethod
    def from_config(cls, config: "Features | Mapping[str, Any]") -> "Features":
        """Accepts what `to_config` wrote, or a `Features` as it is."""
        if isinstance(config, Features):
            return config
        return cls(config["num_features"], tuple(Field(*field) for field in config["fields"]))
