"""Plots of a run as PNG: history, calibration curve, ROC, and the heat map of an explanation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

from pipeline.files import replacing
from pipeline.metrics import calibration_bins, sigmoid

_DPI = 110


def _save(figure: plt.Figure, path: Path) -> Path:
    with replacing(path) as aside:
        figure.savefig(aside, dpi=_DPI, bbox_inches="tight")
    plt.close(figure)
    return path


def plot_history(rows: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Loss and AUC (RMSE where there is no AUC) by epoch."""
    epochs = [row["epoch"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot(epochs, [row["loss"] for row in rows], marker="o", label="training loss")
    validation = "val_logloss" if "val_logloss" in rows[0] else "val_rmse"
    left.plot(epochs, [row[validation] for row in rows], marker="o", label=validation)
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    left.legend()
    right.plot(epochs, [row["val_auc"] for row in rows], marker="o", color="tab:green")
    right.set(xlabel="epoch", ylabel="AUC", title="Validation AUC")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return _save(figure, path)


def plot_calibration(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path
) -> Path:
    """Observed rate against mean probability in bins of equal weight, one curve an entry.

    Args:
        curves: name -> probabilities, labels and weights, each (N,).
    """
    figure, axis = plt.subplots(figsize=(5, 5))
    top = 0.0
    for name, columns in curves.items():
        mean, rate, _ = calibration_bins(*columns)
        top = max(top, float(mean.max()), float(rate.max()))
        axis.plot(mean, rate, marker="o", label=name)
    axis.plot([0, top], [0, top], color="grey", linestyle="--", label="perfect")
    axis.set(xlabel="mean predicted probability", ylabel="observed rate", title="Calibration")
    axis.legend()
    axis.grid(alpha=0.3)
    return _save(figure, path)


def plot_roc(curves: Mapping[str, tuple[np.ndarray, ...]], path: Path) -> Path:
    """ROC curves.

    Args:
        curves: name -> scores, labels and weights, each (N,).
    """
    figure, axis = plt.subplots(figsize=(5, 5))
    for name, (scores, labels, weights) in curves.items():
        false_rate, true_rate, _ = roc_curve(labels, scores, sample_weight=weights)
        axis.plot(false_rate, true_rate, label=name)
    axis.plot([0, 1], [0, 1], color="grey", linestyle="--")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    axis.legend()
    axis.grid(alpha=0.3)
    return _save(figure, path)


def plot_split(
    directory: Path, split: str, scored: tuple[np.ndarray, ...], task: str
) -> list[Path]:
    """ROC and, for a binary task, calibration curve of a scored split."""
    scores, labels, weights = scored
    paths = [plot_roc({split: scored}, directory / f"roc_{split}.png")]
    if task == "binary":
        probabilities = sigmoid(scores.astype(np.float64))
        curve = {split: (probabilities, labels.astype(float), weights)}
        paths.append(plot_calibration(curve, directory / f"calibration_{split}.png"))
    return paths


def plot_interactions(matrix: np.ndarray, fields: Sequence[str], title: str, path: Path) -> Path:
    """Heat map of an (F, F) matrix of contributions, blue lowers the logit and red raises it."""
    size = 2.5 + 0.4 * len(fields)
    figure, axis = plt.subplots(figsize=(size + 1, size))
    limit = float(np.abs(matrix).max()) or 1.0
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_xticks(range(len(fields)), fields, rotation=60, ha="right")
    axis.set_yticks(range(len(fields)), fields)
    axis.set_title(title)
    figure.colorbar(image, ax=axis, shrink=0.8)
    return _save(figure, path)


def plot_trials(values: Sequence[float], metric: str, best: Any, path: Path) -> Path:
    """A search: each trial's value and the best so far.

    Args:
        values: in order of trials; NaN for a pruned one.
        best: `np.fmin.accumulate` or `np.fmax.accumulate`, whichever way is better.
    """
    figure, axis = plt.subplots(figsize=(7, 4))
    numbers = np.arange(1, len(values) + 1)
    axis.scatter(numbers, values, label="trial")
    axis.step(numbers, best(np.asarray(values, float)), where="post", label="best so far")
    axis.set(xlabel="trial", ylabel=metric, title="Search")
    axis.legend()
    axis.grid(alpha=0.3)
    return _save(figure, path)
