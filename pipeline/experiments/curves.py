"""Sweeps: the validation metric along one key, a curve a file."""

import json
from typing import Any

from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records
from pipeline.experiments.table import mean


def points(experiment: Experiment, records: Records, row: str) -> list[tuple[Any, float, int]]:
    """(value of the key, mean validation metric, seeds) for each value that has been run."""
    metric = experiment.table.metrics[0]
    found = []
    for value, variant in zip(
        experiment.row(row).sweep.values, experiment.variants(row), strict=True
    ):
        kept = [record for record in records.of(row) if record["variant"] == variant]
        if kept:
            found.append((value, mean(kept, metric, "validation"), len(kept)))
    return found


def markdown(experiment: Experiment, records: Records) -> str:
    """One line a curve: values of the key, and what came of each."""
    table = experiment.table
    parts = [f"**{table.title}.** Published in: {table.published_in}."]
    parts += [f"> {caveat}" for caveat in table.caveats]
    lines = [
        f"| curve | key | validation {table.metrics[0]} at each value | note |",
        "|---" * 4 + "|",
    ]
    missing = []
    for row in experiment.curves:
        kept = points(experiment, records, row)
        if not kept:
            missing.append(f"`{row}`")
            continue
        told = ", ".join(f"{json.dumps(value)}: {number:.4f}" for value, number, _ in kept)
        link = f"[{row}]({experiment.link(row)})"
        note = experiment.row(row).note
        lines.append(f"| {link} | `{experiment.row(row).sweep.key}` | {told} | {note} |")
    if len(lines) > 2:
        parts.append("\n".join(lines))
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(parts)
