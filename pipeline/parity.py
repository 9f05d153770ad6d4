"""The same rows through training's path and through the server: how far apart are the answers?"""

import dataclasses
import time
from typing import Any

import numpy as np

from pipeline.evaluate import Scorer
from pipeline.evaluation import served_inputs
from pipeline.metrics import sigmoid
from pipeline.rundir import Run
from serving.calibration import reference
from serving.client import Client

TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Parity:
    """Rows compared over one protocol."""

    protocol: str
    rows: int
    largest: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every answer was within the tolerance."""
        return self.largest <= TOLERANCE


def expected_answers(run: Run, prepared: Any, split: str) -> np.ndarray:
    """What the Keras model says of the split's prepared TFRecords: probabilities or predictions."""
    scorer = Scorer(run.load_model())
    parts = [
        scorer(inputs["ids"].numpy(), inputs["values"].numpy())
        for inputs, *_ in prepared.dataset(split, 4096)
    ]
    logits = np.concatenate(parts)
    if run.config.training.task == "regression":
        return np.clip(logits, -1.0, 1.0)
    steps = run.read_json("calibration.json")
    return reference(logits, steps) if steps else sigmoid(logits.astype(np.float64))


def compare(
    client: Client, protocol: str, rows: dict[str, np.ndarray], expected: np.ndarray, batch: int
) -> Parity:
    """Score raw rows (column -> (N,)) through the client and compare with `expected` (N,)."""
    begun = time.perf_counter()
    largest = 0.0
    for start in range(0, len(expected), batch):
        part = slice(start, start + batch)
        answer = client.predict({name: values[part] for name, values in rows.items()})
        found = answer["probability"] if "probability" in answer else answer["prediction"]
        largest = max(largest, float(np.abs(found - expected[part]).max()))
    return Parity(protocol, len(expected), largest, time.perf_counter() - begun)


def check_server(
    run: Run, prepared: Any, addresses: dict[str, str], split: str = "test", batch: int = 500
) -> list[Parity]:
    """Every raw row of the split through each address (protocol -> address) of a running server."""
    expected = expected_answers(run, prepared, split)
    rows = served_inputs(prepared, split)
    found = []
    for protocol, address in addresses.items():
        with Client(address, run.config.served_name, timeout=60.0) as client:
            found.append(compare(client, protocol, rows, expected, batch))
    return found
