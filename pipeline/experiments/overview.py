"""What all tables come to: rows run, seeds, published figures met, the best row of each."""

from collections.abc import Sequence
from typing import Any

from pipeline.config import METRICS
from pipeline.experiments import table
from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records

_HEAD = [
    "| table | rows run | with all seeds | published figures met or passed | best row |",
    "|---|---:|---:|---|---|",
]


def markdown(tables: Sequence[tuple[Experiment, Records]]) -> str:
    """One line a table, in Markdown; curves have no published figures and are left out."""
    compared = [(item, kept) for item, kept in tables if not item.curves]
    return "\n".join(_HEAD + [_line(item, kept) for item, kept in compared])


def _line(experiment: Experiment, records: Records) -> str:
    done = table.finished_rows(experiment, records)
    whole = [row for row, tested in done.items() if len(tested) >= len(experiment.table.seeds)]
    cells = [
        f"[{experiment.name}](#{experiment.name})",
        f"{len(done)} of {len(experiment.rows)}",
        str(len(whole)),
        _met(experiment, done),
        _best(experiment, done),
    ]
    return f"| {' | '.join(cells)} |"


def _met(experiment: Experiment, done: dict[str, list[dict[str, Any]]]) -> str:
    if not experiment.table.comparable:
        return "only the order is comparable"
    parts = []
    for metric in experiment.table.metrics:
        published = {row: experiment.row(row).published.get(metric) for row in done}
        known = {row: value for row, value in published.items() if value is not None}
        met = [row for row, value in known.items() if _reaches(metric, done[row], value)]
        if known:
            parts.append(f"{table.metric_name(metric)} {len(met)} of {len(known)}")
    return ", ".join(parts)


def _reaches(metric: str, tested: list[dict[str, Any]], published: float) -> bool:
    # As the tables show it: what differs by less than their last digit is level.
    value = round(table.mean(tested, metric), 4)
    return value >= published if METRICS[metric] else value <= published


def _best(experiment: Experiment, done: dict[str, list[dict[str, Any]]]) -> str:
    if not done:
        return ""
    metric = experiment.table.metrics[0]
    better = max if METRICS[metric] else min
    row = better(done, key=lambda name: table.mean(done[name], metric))
    values = [
        f"{table.metric_name(m)} {table.value_text(done[row], m)}" for m in experiment.table.metrics
    ]
    return f"{experiment.label(row)}: {', '.join(values)}"
