"""The `evaluate` step: a trained run's metrics and plots on a split, written into the run."""

from typing import Any

import numpy as np

from pipeline.errors import PipelineError, nearest
from pipeline.evaluate import Scorer, Split, evaluate_calibrated, evaluate_split
from pipeline.metrics import SingleClassError
from pipeline.report import plot_split
from pipeline.rundir import Run


def evaluate_run(
    run: Run, split: str = "test", prepared: Any = None, plots: bool = True
) -> dict[str, dict[str, float]]:
    """Metrics of the run's model on a split, raw and (where fitted) calibrated.

    They go into metrics.json under the split's name, and `<split>_calibrated`.
    """
    prepared = prepared or run.load_prepared()
    known = prepared.manifest["splits"]
    if split not in known:
        raise PipelineError(f"unknown split {split!r}{nearest(split, known)}")
    task = run.config.training.task
    scorer = Scorer(run.load_model())
    part = Split(prepared, split, run.config.data)
    metrics = evaluate_split(scorer, part, task)
    try:
        found = {split: metrics.result()}
    except SingleClassError as error:
        raise PipelineError(f"{split} split of {prepared.path}: {error}") from error
    steps = run.read_json("calibration.json")
    if steps:
        found[f"{split}_calibrated"] = evaluate_calibrated(steps, metrics, scorer, part)
    if plots:
        plot_split(run.plots, split, metrics.scored(), task)
    run.update_metrics(**found)
    return found


def served_inputs(prepared: Any, split: str, rows: slice = slice(None)) -> dict[str, np.ndarray]:
    """Raw rows of a split by served column, as a client sends them."""
    table = prepared.raw(split)
    found = {}
    for column in prepared.manifest["columns"]:
        values = table.column(column["name"])[rows].to_pylist()
        if column["dtype"] == "string":
            found[column["name"]] = np.array(
                [b"" if v is None else str(v).encode() for v in values], object
            )
        else:
            found[column["name"]] = np.array(
                [np.nan if v is None else v for v in values], np.float32
            )
    return found
