"""The generated part of a README: all tables and plots, from the records alone.

python -m pipeline.experiments.readme        # make tables
"""

import argparse
from pathlib import Path
from typing import Any

from pipeline.experiments import (
    curves,
    definition,
    figures,
    functions,
    interpret,
    overview,
    records,
    table,
)
from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records
from pipeline.files import fill_marks, write_text

_PLANTED = "sparse-interactions-planted"
MARKS = ("<!-- generated: tables -->", "<!-- end -->")
README = Path(__file__).parent / "README.md"


def write(results: Path = records.RESULTS) -> Path:
    """Write tables and plots of the records in `results`.

    The committed records go between the marks of the README beside them; records elsewhere get a
    README of their own in their folder.
    """
    home = results.resolve() == records.RESULTS.resolve()
    readme = README if home else results / "README.md"
    text = generated(results)
    if home:
        text = fill_marks(readme.read_text(encoding="utf-8"), MARKS, text, readme)
    write_text(readme, text)
    plots(results, readme.parent / "plots")
    return readme


def generated(results: Path) -> str:
    """All sections, in Markdown."""
    tables = _all(results)
    sections = [f"### Overview\n\n{overview.markdown(tables)}\n"]
    for experiment, kept in tables:
        if experiment.curves:
            text = curves.markdown(experiment, kept)
        else:
            text = table.markdown(experiment, kept)
        sections.append(f"### {experiment.name}\n\n{text}\n")
        if len(kept):
            sections.append(f"![{experiment.name}](plots/{experiment.name}.png)\n")
    fitted = records.load(functions.NAME, results)
    sections.append(f"### {functions.NAME}\n\n{functions.markdown(fitted)}\n")
    if len(fitted):
        sections.append(f"![{functions.NAME}](plots/{functions.NAME}.png)\n")
    sections.append(_interpretation(results))
    return "\n".join(sections)


def plots(results: Path, folder: Path) -> None:
    """All plots."""
    fitted = records.load(functions.NAME, results)
    if len(fitted):
        found = {name: functions.points(fitted, name) for name in functions.FUNCTIONS}
        figures.plot_functions(found, folder / f"{functions.NAME}.png")
    for experiment, kept in _all(results):
        plot = figures.plot_curves if experiment.curves else figures.plot_table
        plot(experiment, kept, folder / f"{experiment.name}.png")
        rows = _with_pairs(experiment, kept)
        if rows:
            named = [(name, found[0]) for name, found in rows]
            extra = None
            if experiment.name == _PLANTED:
                extra = ("planted", interpret.planted_strength())
            figures.plot_pairs(named, folder / f"{experiment.name}-pairs.png", extra)


def _interpretation(results: Path) -> str:
    """Which interactions matter, by field name."""
    parts = ["### interpret\n"]
    for experiment, kept in _all(results):
        rows = _with_pairs(experiment, kept)
        if not rows:
            continue
        parts.append(f"{experiment.name}:\n")
        if experiment.name == _PLANTED:
            lines = interpret.recovery_table(rows)
        else:
            lines = interpret.strongest_table([(name, found[0]) for name, found in rows])
        parts.append("\n".join(lines) + "\n")
        for lines in _small(rows):
            parts.append("\n".join(lines) + "\n")
        parts.append(f"![pairs of fields](plots/{experiment.name}-pairs.png)\n")
    return "\n".join(parts)


def _small(rows: list[tuple[str, list[dict[str, Any]]]]) -> list[list[str]]:
    """The tables that fit a dataset of three fields."""
    named = [(name, found[0]) for name, found in rows if len(found[0]["pairs"]["fields"]) == 3]
    found = [interpret.norms_table(named)] if named else []
    for name, record in named:
        if "order_2_contributions" in record["pairs"]["examples"]:
            found.append(interpret.examples_table(name, record))
    return [lines for lines in found if lines]


def _with_pairs(experiment: Experiment, kept: Records) -> list[tuple[str, list[dict[str, Any]]]]:
    rows = []
    for row in experiment.rows:
        found = [r for r in table.final_records(kept, row) if "pairs" in r]
        if found:
            rows.append((experiment.label(row), found))
    return rows


def _all(results: Path) -> list[tuple[Experiment, Records]]:
    experiments = [definition.load(name) for name in definition.names()]
    return [(item, records.load(item.name, results)) for item in experiments]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.experiments.readme")
    parser.add_argument("--results", type=Path, default=records.RESULTS)
    print(write(parser.parse_args().results))
