"""Predictions and metrics of a whole split."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from pipeline.calibration import Step, calibrated_logits, calibrated_metrics
from pipeline.compiled import compiled
from pipeline.config import DataConfig
from pipeline.data import fits_in_memory
from pipeline.metrics import Metrics

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

BATCH = 8192

# Logits (B,) of ids and values (B, P).
LogitsOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Scorer:
    """A model's compiled forward pass: logits (B,) of ids and values (B, P)."""

    def __init__(self, model: keras.Model) -> None:
        def forward(inputs: dict[str, Any]) -> Any:
            return keras.ops.reshape(model(inputs, training=False), [-1])

        self._forward = compiled(model, forward)

    def __call__(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Logits, float32 (B,)."""
        return self._forward({"ids": ids, "values": values})


class Split:
    """One split, ready to be scored again and again (from memory where it fits)."""

    def __init__(self, prepared: "PreparedDataset", name: str, data: DataConfig) -> None:
        self.prepared = prepared
        self.name = name
        self.rows = prepared.manifest["splits"][name]["rows"]
        self._arrays = prepared.arrays(name) if fits_in_memory(prepared, name, data) else None

    def scored(self, scorer: LogitsOf) -> Iterator[tuple[np.ndarray, ...]]:
        """Batches of (logits, labels 0/1, weights or None, groups or None)."""
        if self._arrays is None:
            yield from self._streamed(scorer)
            return
        arrays = self._arrays
        for start in range(0, self.rows, BATCH):
            part = slice(start, start + BATCH)
            weights, groups = (
                None if arrays.get(name) is None else arrays[name][part]
                for name in ("weight", "group")
            )
            logits = scorer(arrays["ids"][part].astype(np.int32), arrays["values"][part])
            yield logits, arrays["label"][part], weights, groups

    def _streamed(self, scorer: LogitsOf) -> Iterator[tuple[np.ndarray, ...]]:
        for inputs, labels, *weights in self.prepared.dataset(self.name, BATCH, groups=True):
            logits = scorer(inputs["ids"].numpy().astype(np.int32), inputs["values"].numpy())
            groups = inputs["group"].numpy() if "group" in inputs else None
            yield logits, labels.numpy(), weights[0].numpy() if weights else None, groups


def evaluate_split(scorer: LogitsOf, split: Split, task: str) -> Metrics:
    """Feed a whole split through the model into a Metrics accumulator."""
    metrics = Metrics(task)
    for logits, labels, weights, groups in split.scored(scorer):
        signed = labels if task == "binary" else 2.0 * labels - 1.0
        metrics.update(logits, signed, weights, groups)
    return metrics


def evaluate_calibrated(
    steps: list[Step], metrics: Metrics, scorer: Scorer, split: Split
) -> dict[str, float]:
    """The metrics of `evaluate_split` after calibration.

    They are computed from the rows these metrics keep; where there are too many of them to keep,
    the split is scored once more.
    """
    if metrics.keeps_rows:
        return calibrated_metrics(steps, metrics.scored())

    def calibrated(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        return calibrated_logits(steps, scorer(ids, values))

    return evaluate_split(calibrated, split, "binary").result()
