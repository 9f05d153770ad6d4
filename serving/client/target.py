"""Which model, and which version of it, a call is for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A model, its latest version by default, or one by number or label.

    Raises:
        ValueError: no name, both version and label, or a version out of range.
    """

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("the model's name is empty")
        if self.version is not None and self.label is not None:
            raise ValueError("give a version or a label, not both")
        if self.version is not None and not 0 <= int(self.version) < 2**63:
            raise ValueError(f"version {self.version} is not a number in [0, 2^63)")
        if self.label == "":
            raise ValueError("the label is empty")

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.model} version {self.version}"
        return f"{self.model} labelled {self.label}" if self.label is not None else self.model
