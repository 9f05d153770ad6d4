"""One table from its definition to its records: data, rows, runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline import stages
from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records
from pipeline.experiments.runner import Runner
from pipeline.specs import prepared_folder


def reproduce(
    experiment: Experiment,
    rows: Sequence[str],
    results: Path,
    runs: Path,
    *,
    seeds: int | None = None,
    resume: bool = False,
    data: Path | None = None,
    prepared: Path | None = None,
    console: Console,
) -> list[dict[str, Any]]:
    """Train and record the rows of one table.

    Args:
        experiment: the table.
        rows: names of rows.
        results: folder of the records.
        runs: folder of the run directories.
        seeds: the first so many seeds; all by default.
        resume: keep valid records and go on with runs that were cut.
        data: folder of the raw files, where the dataset has yet to be prepared.
        prepared: folder of prepared datasets, named by their spec.
        console: where progress goes.

    Returns:
        the records of this session.
    """
    spec = experiment.table.base["data"]["spec"]
    place = prepared / prepared_folder(spec).name if prepared else None
    config = experiment.config(rows[0], "", 0, runs, place)
    config.data.source = data or config.data.source
    console.print(f"{experiment.name}: {experiment.table.title}", highlight=False)
    dataset = stages.prepare(config, console)
    records = Records(results / f"{experiment.name}.jsonl")
    runner = Runner(experiment, records, dataset, runs, resume, console)
    return list(runner.run(rows, seeds))
