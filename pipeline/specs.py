"""Dataset specs by file or by the name of one that ships with the project."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import nearest

if TYPE_CHECKING:
    from preprocessing.schema import DatasetSpec

PRESETS = Path(__file__).parents[1] / "preprocessing" / "presets"


def find_spec(name: str) -> Path:
    """Path of a spec file; raises FileNotFoundError with the nearest names."""
    path = Path(name)
    if path.is_file():
        return path
    preset = PRESETS / f"{name}.yaml"
    if len(path.parts) == 1 and preset.is_file():
        return preset
    known = sorted(item.stem for item in PRESETS.glob("*.yaml"))
    raise FileNotFoundError(f"no dataset spec {name!r}{nearest(name, known)}")


def load_spec(name: str) -> "DatasetSpec":
    """The validated spec."""
    from preprocessing.schema import DatasetSpec

    return DatasetSpec.load(find_spec(name))


def data_folder(name: str, given: Path | None) -> Path | None:
    """The folder of a spec's raw files: as given, where `datasets fetch` puts them, or None.

    None means the spec's own folder, which is right for a spec file of the user's.
    """
    if given is not None or Path(name).is_file():
        return given
    from preprocessing import fetch

    return fetch.cached(name)
