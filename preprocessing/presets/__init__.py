"""Public datasets as ready specs: one YAML each, and a module where the source needs joining."""

from __future__ import annotations

from pathlib import Path

from preprocessing.schema import DatasetSpec, SpecError
from preprocessing.spec_errors import near

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("*.yaml"))


def spec(name: str) -> DatasetSpec:
    """The spec of a preset. Raises SpecError with the nearest name for an unknown one."""
    if name not in names():
        raise SpecError(f"no preset '{name}'{near(name, names())}; one of {', '.join(names())}")
    return DatasetSpec.load(_FOLDER / f"{name.replace('-', '_')}.yaml")
