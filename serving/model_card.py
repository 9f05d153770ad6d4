"""The model card: what a published version is, for people (Markdown) and programs (JSON).

It lies in `assets.extra/`, which TensorFlow Serving reads nothing but the warm-up file from.
"""

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CARD_FOLDER = Path("assets.extra")


def write_model_card(directory: Path, card: Mapping[str, object]) -> None:
    """Write model_card.json and model_card.md under `directory`/assets.extra."""
    folder = directory / CARD_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    plain = _plain(card)
    (folder / "model_card.json").write_text(
        json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    (folder / "model_card.md").write_text(to_markdown(plain), encoding="utf-8")


def code_version() -> str:
    """The commit of this code (`-dirty` with changes on top), `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def read_model_card(directory: Path) -> dict[str, object]:
    """The card of a version directory.

    Raises:
        FileNotFoundError: the version carries none.
    """
    return json.loads((directory / CARD_FOLDER / "model_card.json").read_text(encoding="utf-8"))


def _plain(value: object) -> object:
    """JSON data; numbers JSON has no name for become their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def to_markdown(card: Mapping[str, object]) -> str:
    """Scalars as a list, then one section per nested entry (a table where rows share keys)."""
    lines = [f"# Model card: {card.get('name', 'model')}", ""]
    nested = {key: value for key, value in card.items() if isinstance(value, (Mapping, list))}
    for key, value in card.items():
        if key not in nested and key != "name":
            lines.append(f"- **{_title(key)}**: {_cell(value)}")
    for key, value in nested.items():
        if value:
            lines += ["", f"## {_title(key)}", "", *_section(value)]
    return "\n".join(lines) + "\n"


def _section(value: Mapping | list) -> list[str]:
    if isinstance(value, list):
        if all(isinstance(item, Mapping) for item in value):
            return _table(value)
        return [f"- {_cell(item)}" for item in value]
    if value and all(isinstance(item, Mapping) for item in value.values()):
        return _table([{"": key, **item} for key, item in value.items()])
    return [f"- **{key}**: {_cell(item)}" for key, item in value.items()]


def _table(rows: Sequence[Mapping]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    lines += ["| " + " | ".join(_cell(row.get(key, "")) for key in keys) + " |" for row in rows]
    return lines


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()
