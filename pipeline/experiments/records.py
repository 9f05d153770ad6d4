"""Records: one JSON line for each row, variant and seed, written as soon as its run is done."""

import json
from pathlib import Path
from typing import Any

from pipeline.files import locked, write_text

RESULTS = Path(__file__).parent / "results"
Key = tuple[str, str, int]


class Records:
    """The records of one table.

    Several processes may add to one file, each its own rows: a table is run on as many cores.

    Args:
        path: the JSON lines file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_key = _read(path)

    def __iter__(self) -> Any:
        return iter([self._by_key[key] for key in sorted(self._by_key)])

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, row: str, variant: str, seed: int) -> dict[str, Any] | None:
        """The record of a run, or None."""
        return self._by_key.get((row, variant, seed))

    def of(self, row: str) -> list[dict[str, Any]]:
        """All records of a row, by variant and seed."""
        return [record for record in self if record["row"] == row]

    def put(self, record: dict[str, Any]) -> None:
        """Add a record, or replace the one of the same run, and write the file whole.

        What other processes have added to the file meanwhile stays in it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            self._by_key = {**_read(self.path), _key(record): record}
            write_text(self.path, "".join(json.dumps(item) + "\n" for item in self))


def load(table: str, folder: Path = RESULTS) -> Records:
    """The records of a table."""
    return Records(folder / f"{table}.jsonl")


def _read(path: Path) -> dict[Key, dict[str, Any]]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {_key(record): record for record in map(json.loads, lines)}


def _key(record: dict[str, Any]) -> Key:
    return record["row"], record["variant"], record["seed"]
