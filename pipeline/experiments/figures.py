"""Plots of the records as PNG: ours against published, sweeps, and heat maps of field pairs."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from pipeline.experiments import curves
from pipeline.experiments.definition import Experiment
from pipeline.experiments.records import Records
from pipeline.experiments.table import finished_rows
from pipeline.files import replacing

_DPI = 80


def plot_table(experiment: Experiment, records: Records, path: Path) -> Path | None:
    """A dot for each seed of a row, and its published value; None where nothing has been run."""
    metric = experiment.table.metrics[0]
    rows = finished_rows(experiment, records)
    if not rows:
        return None
    figure, axis = plt.subplots(figsize=(7, 0.32 * len(rows) + 1.2))
    for place, found in enumerate(rows.values()):
        values = [record["test"][metric] for record in found]
        label = {"label": "ours, each seed"} if place == 0 else {}
        axis.plot(values, [place] * len(values), "o", color="tab:blue", **label)
    published = [(n, experiment.row(row).published.get(metric)) for n, row in enumerate(rows)]
    known = [(place, value) for place, value in published if value is not None]
    if known:
        places, values = zip(*known, strict=True)
        axis.plot(values, places, "x", color="tab:red", label="published")
    axis.set_yticks(range(len(rows)), [experiment.label(row) for row in rows])
    axis.invert_yaxis()
    axis.set(xlabel=f"test {metric}", title=experiment.name)
    axis.grid(alpha=0.3)
    axis.legend()
    return _save(figure, path)


def plot_curves(experiment: Experiment, records: Records, path: Path) -> Path | None:
    """One small plot a curve; None where nothing has been run."""
    found = {row: curves.points(experiment, records, row) for row in experiment.curves}
    found = {row: points for row, points in found.items() if points}
    if not found:
        return None
    width = min(3, len(found))
    height = -(-len(found) // width)
    figure, axes = plt.subplots(
        height, width, figsize=(4 * width, 2.8 * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    for axis, (row, points) in zip(axes.flat, found.items(), strict=False):
        names = [str(value) for value, _, _ in points]
        axis.plot(names, [number for _, number, _ in points], marker="o")
        axis.set(title=row, xlabel=experiment.row(row).sweep.key)
        axis.set_ylabel(f"validation {experiment.table.metrics[0]}")
        axis.grid(alpha=0.3)
    return _save(figure, path)


def plot_functions(found: dict[str, dict[str, list[tuple]]], path: Path) -> Path:
    """Test error against parameters, one panel a function and one line a model.

    Args:
        found: by function and model the points (parameters, error, deviation, seeds).
        path: of the PNG.
    """
    figure, axes = plt.subplots(
        1, len(found), figsize=(4.5 * len(found), 3.2), squeeze=False, layout="constrained"
    )
    for axis, (function, by_model) in zip(axes[0], found.items(), strict=True):
        for name, points in by_model.items():
            parameters, errors, spreads, _ = zip(*points, strict=True)
            axis.errorbar(parameters, errors, spreads, marker="o", capsize=3, label=name)
        axis.set(title=function, xlabel="parameters", ylabel="mean squared error, test")
        axis.set(xscale="log", yscale="log")
        axis.grid(alpha=0.3)
        axis.legend()
    return _save(figure, path)


def plot_pairs(rows: list[tuple[str, dict[str, Any]]], path: Path, extra: Any = None) -> Path:
    """Heat maps of the mean pair weights, one panel a model.

    Args:
        rows: names and records that hold `pairs`.
        path: of the PNG.
        extra: (name, matrix) of one more panel, such as the planted truth.
    """
    panels = [
        (name, np.array(record["pairs"].get("order_2_weights", record["pairs"].get("field_norms"))))
        for name, record in rows
    ]
    panels += [extra] if extra else []
    fields = rows[0][1]["pairs"]["fields"]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4.2), squeeze=False, layout="constrained"
    )
    for axis, (name, matrix) in zip(axes[0], panels, strict=True):
        axis.imshow(matrix, cmap="viridis")
        axis.set_xticks(range(len(fields)), fields, rotation=90)
        axis.set_yticks(range(len(fields)), fields)
        axis.set_title(name, fontsize=10)
    return _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        figure.savefig(aside, dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return path
