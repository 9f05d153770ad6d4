"""history.csv: one line an epoch, rewritten whole so that it is never cut in half."""

import csv
import io
from pathlib import Path
from typing import Any

from pipeline.callbacks.base import StatefulCallback
from pipeline.files import write_text


class HistoryCsv(StatefulCallback):
    """Collects the logs of every epoch in `rows` and writes them to `path`."""

    remembered = ("rows",)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        numbers = {name: float(value) for name, value in logs.items()}
        self.rows.append({"epoch": epoch + 1, **numbers})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
