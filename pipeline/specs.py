"""Dataset specs and raw files by path, or by the name of a dataset that ships with the project."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import nearest
from preprocessing.filesystem import DataPath

if TYPE_CHECKING:
    from preprocessing.schema import DatasetSpec


def load_spec(name: str) -> "DatasetSpec":
    """The validated spec of a file or a shipped dataset.

    Raises FileNotFoundError with the nearest names, or the spec's own one-line error.
    """
    from preprocessing import presets
    from preprocessing.schema import DatasetSpec

    if Path(name).is_file():
        return DatasetSpec.load(name)
    if name in presets.names():
        return presets.spec(name)
    raise FileNotFoundError(f"no dataset spec {name!r}{nearest(name, presets.names())}")


def raw_folder(
    name: str, given: "DataPath | None", say: Callable[[str], None] = lambda _: None
) -> "DataPath | None":
    """The folder of the raw files: as given, or fetched, or None for the spec's own folder."""
    from preprocessing import fetch

    if given is None and not Path(name).is_file() and name in fetch.fetchable():
        return fetch.fetch(name, say=say)
    return given


def prepared_folder(name: str) -> Path:
    """Where a dataset is prepared to unless told otherwise."""
    return Path("data") / "prepared" / Path(name).stem
