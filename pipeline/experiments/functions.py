"""DA-HoFM's Figure 2 (section 4.6): what an FM and a network of one hidden layer make of a
polynomial of two numbers and of a non-linear function of them, against their parameters.

The FM meets each number as two fields: its pairs are those of different fields, and only so has it
the squares that the polynomial asks for. Its first-order weights are there as always.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

import models
from models.features import Features, Field
from pipeline.experiments.definition import FUNCTIONS as NAME
from pipeline.experiments.records import Records
from preprocessing.presets import synthetic_sparse

TITLE = "An FM and a network fitted to two functions of two numbers (DA-HoFM, section 4.6)"
FUNCTIONS = {"polynomial": synthetic_sparse.polynomial, "nonlinear": synthetic_sparse.nonlinear}
SEEDS = (2024, 2025, 2026)
_ROWS, _EPOCHS, _BATCH, _RATE = 2_000, 500, 32, 0.01
_CUTS = (int(0.7 * _ROWS), int(0.85 * _ROWS))
_FIELDS = ("x", "x again", "z", "z again")


def fm(size: int) -> keras.Model:
    """The FM with embeddings of `size`."""
    features = Features(1 + len(_FIELDS), tuple(Field(name) for name in _FIELDS))
    return models.build("fm", features, embedding_dim=size)


def network(size: int) -> keras.Model:
    """One hidden tanh layer of `size` on [x, z]."""
    return keras.Sequential([keras.layers.Dense(size, activation="tanh"), keras.layers.Dense(1)])


MODELS: dict[str, tuple[Callable[[int], keras.Model], tuple[int, ...]]] = {
    "fm": (fm, (1, 2, 4, 8, 16)),
    "network": (network, (1, 2, 4, 8, 16)),
}


def reproduce(
    results: Path, console: Console, seeds: int | None = None, resume: bool = False
) -> Iterator[dict[str, Any]]:
    """Fit every size of both models to both functions; yields each record when it is written.

    Args:
        results: folder of the records.
        console: where progress goes.
        seeds: the first so many seeds; all by default.
        resume: keep the records there are.
    """
    kept = Records(results / f"{NAME}.jsonl")
    jobs = [
        (function, name, size, seed)
        for seed in SEEDS[:seeds]
        for function in FUNCTIONS
        for name, (_, sizes) in MODELS.items()
        for size in sizes
    ]
    for number, (function, name, size, seed) in enumerate(jobs, start=1):
        row = f"{function} {name}"
        if resume and (known := kept.get(row, str(size), seed)):
            yield known
            continue
        console.print(f"[{number}/{len(jobs)}] {row} {size}, seed {seed}", markup=False)
        record = {"table": NAME, "row": row, "variant": str(size), "seed": seed}
        kept.put(record | fit(function, name, size, seed))
        yield kept.get(row, str(size), seed)


def fit(
    function: str, name: str, size: int, seed: int, epochs: int | None = None
) -> dict[str, Any]:
    """One run: parameters, epochs, and the mean squared errors of the best validation epoch."""
    epochs = epochs or _EPOCHS
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    points, target = FUNCTIONS[function](_ROWS, seed)
    build, _ = MODELS[name]
    model = build(size)
    parts = [
        (_inputs(name, x), y)
        for x, y in zip(np.split(points, _CUTS), np.split(target, _CUTS), strict=True)
    ]
    model.compile(keras.optimizers.SGD(_RATE), loss="mse", steps_per_execution=_CUTS[0] // _BATCH)
    best = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    history = model.fit(
        *parts[0],
        batch_size=_BATCH,
        epochs=epochs,
        validation_data=parts[1],
        validation_batch_size=_ROWS,
        callbacks=[best],
        verbose=0,
    ).history["val_loss"]
    errors = [model.evaluate(x, y, batch_size=_ROWS, verbose=0) for x, y in parts[1:]]
    return {
        "parameters": _parameters(name, model, size),
        "epochs": len(history),
        "best_epoch": int(np.argmin(history)) + 1,
        "validation": {"mse": round(errors[0], 7)},
        "test": {"mse": round(errors[1], 7)},
    }


def _inputs(name: str, points: np.ndarray) -> Any:
    points = points.astype(np.float32)
    if name == "network":
        return points
    ids = np.tile(np.arange(1, 1 + len(_FIELDS)), (len(points), 1))
    return {"ids": ids, "values": points[:, [0, 0, 1, 1]]}


def _parameters(name: str, model: keras.Model, size: int) -> int:
    """Parameters in use: the row of an FM's padding is not."""
    unused = size + 1 if name == "fm" else 0
    return model.count_params() - unused


def points(kept: Records, function: str) -> dict[str, list[tuple[int, float, float, int]]]:
    """By model: (parameters, mean and deviation of the test error, seeds), by size."""
    found: dict[str, list[tuple[int, float, float, int]]] = {}
    for name, (_, sizes) in MODELS.items():
        for size in sizes:
            mine = [r for r in kept.of(f"{function} {name}") if r["variant"] == str(size)]
            if mine:
                errors = [record["test"]["mse"] for record in mine]
                spread = float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0
                point = (mine[0]["parameters"], float(np.mean(errors)), spread, len(errors))
                found.setdefault(name, []).append(point)
    return found


def markdown(kept: Records) -> str:
    """Setting, and one line for each function and model."""
    lines = [
        f"**{TITLE}.** Published in: DA-HoFM, Figure 2 (a plot without numbers).",
        "",
        f"> Constants, ranges and the number of records are not published: {_ROWS:,} records with "
        f"x, z ~ U(-1, 1), noise of deviation 0.01 (so that no model gets below 0.0001), 70 % for "
        f"training. {_EPOCHS} epochs of SGD in batches of {_BATCH} as in the paper, at a rate of "
        f"{_RATE} in place of its 0.001, and the weights of the best validation epoch.",
        "",
        "| function | model | mean squared error on the test part (parameters) | seeds |",
        "|---|---|---|---:|",
    ]
    for function in FUNCTIONS:
        for name, found in points(kept, function).items():
            told = [
                f"{error:.5f}{f' ± {spread:.5f}' if seeds > 1 else ''} ({parameters})"
                for parameters, error, spread, seeds in found
            ]
            lines.append(f"| {function} | {name} | {', '.join(told)} | {found[0][3]} |")
    return "\n".join(lines) if len(kept) else "\n".join([*lines[:3], "", "Not run yet."])
