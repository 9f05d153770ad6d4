"""The Markdown of a table: ours beside the published numbers, and what each run was."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records

_NAMES = {"auc": "AUC", "logloss": "logloss", "rmse": "RMSE"}


def markdown(experiment: Experiment, records: Records) -> str:
    """Title, caveats, budget, table, and what has not been run."""
    table = experiment.table
    parts = [f"**{table.title}.** Published in: {table.published_in}."]
    parts += [f"> {caveat}" for caveat in table.caveats]
    parts.append(f"Search budget: {table.budget.strip()}")
    done = finished_rows(experiment, records)
    if done:
        legend = _legend(done)
        parts.append("\n".join(_rows(experiment, done, legend)))
        parts.append(_explain_columns(experiment, done))
        parts.append("\n".join(f"* run {letter}: {text}" for text, letter in legend.items()))
    notes = [f"* {experiment.label(row)}: {experiment.row(row).note}" for row in done]
    notes = [note for note in notes if not note.endswith(": ")]
    if notes:
        parts.append("\n".join(notes))
    missing = [f"`{row}`" for row in experiment.rows if row not in done]
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(parts)


def final_records(records: Records, row: str) -> list[dict[str, Any]]:
    """A row's tested records, one for each seed."""
    return [record for record in records.of(row) if "test" in record]


def finished_rows(experiment: Experiment, records: Records) -> dict[str, list[dict[str, Any]]]:
    """The rows that have tested records, and these."""
    found = {row: final_records(records, row) for row in experiment.rows}
    return {row: tested for row, tested in found.items() if tested}


def mean(records: Sequence[dict[str, Any]], metric: str, split: str = "test") -> float:
    """Mean over the seeds."""
    return float(np.mean([record[split][metric] for record in records]))


def value_text(records: Sequence[dict[str, Any]], metric: str) -> str:
    """Mean and, of several seeds, standard deviation on the test split."""
    text = f"{mean(records, metric):.4f}"
    if len(records) > 1:
        text += f" ± {np.std([record['test'][metric] for record in records], ddof=1):.4f}"
    return text


def metric_name(metric: str) -> str:
    """A metric as tables show it."""
    return _NAMES.get(metric, metric)


def _rows(
    experiment: Experiment, done: dict[str, list[dict[str, Any]]], legend: dict[str, str]
) -> list[str]:
    table = experiment.table
    columns = ["model"]
    for metric in table.metrics:
        columns += [metric_name(metric), "published"]
        columns += ["difference"] if table.comparable else []
    relative = table.comparable and table.baseline in done
    columns += [f"against {table.baseline}'s"] if relative else []
    columns += ["setting"] if table.candidates else []
    columns += ["parameters", "published", "epochs", "seconds", "CPU s", "seeds", "run"]
    lines = [f"| {' | '.join(columns)} |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    for row, found in done.items():
        cells = [f"[{experiment.label(row)}]({experiment.link(row)})"]
        for metric in table.metrics:
            cells += _metric_cells(experiment, row, found, metric)
        if relative:
            cells.append(_relative(experiment, row, done))
        if table.candidates:
            cells.append(found[0]["variant"])
        cells += _cost_cells(found)
        cells.insert(len(cells) - 4, experiment.row(row).published_parameters)
        cells.append(" ".join(dict.fromkeys(legend[_origin(record)] for record in found)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _metric_cells(
    experiment: Experiment, row: str, found: list[dict[str, Any]], metric: str
) -> list[str]:
    published = experiment.row(row).published.get(metric)
    cells = [value_text(found, metric), f"{published:.4f}" if published is not None else ""]
    if experiment.table.comparable:
        difference = f"{mean(found, metric) - published:+.4f}" if published is not None else ""
        cells.append(difference)
    return cells


def _relative(experiment: Experiment, row: str, done: dict[str, list[dict[str, Any]]]) -> str:
    """The row's difference less the baseline's, in the first metric."""
    metric, baseline = experiment.table.metrics[0], experiment.table.baseline
    published = [experiment.row(name).published.get(metric) for name in (row, baseline)]
    if row == baseline or None in published:
        return ""
    moved = [
        mean(done[name], metric) - value
        for name, value in zip((row, baseline), published, strict=True)
    ]
    return f"{moved[0] - moved[1]:+.4f}"


def _cost_cells(found: list[dict[str, Any]]) -> list[str]:
    def average(key: str) -> float:
        return float(np.mean([record[key] for record in found]))

    return [
        f"{found[0]['parameters']:,}",
        f"{average('best_epoch'):.0f} of {average('epochs'):.0f}",
        f"{average('seconds'):.0f}",
        f"{average('cpu_seconds'):.0f}",
        str(len(found)),
    ]


def _explain_columns(experiment: Experiment, done: dict[str, list[dict[str, Any]]]) -> str:
    table = experiment.table
    text = (
        "Test split, mean ± standard deviation over the seeds (a row with one seed has no "
        f"deviation); weights of the epoch with the best validation {metric_name(table.select)}. "
        "Epochs: best of all. Seconds and CPU seconds (of all threads) are those of one training "
        "run on a shared machine, validation included."
    )
    if table.comparable:
        text += " Difference: ours less published"
        if table.baseline in done:
            text += (
                f"; against {table.baseline}'s: that difference less {table.baseline}'s own, in "
                f"{metric_name(table.metrics[0])}"
            )
        text += "."
    else:
        text += " Published numbers are of other data or sizes: compare their order only."
    return text


def _legend(done: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Where and on what runs were made, each distinct one with a letter."""
    origins = dict.fromkeys(_origin(record) for found in done.values() for record in found)
    return {text: chr(ord("a") + index) for index, text in enumerate(origins)}


def _origin(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    data = record["data"]
    return f"data {data['name']} {data['content_hash'][:16]}; {record['machine']}; {versions}"
