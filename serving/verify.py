"""Checks a SavedModel before it is published: `python -m serving.verify MODEL CASE REPORT`.

A fresh process loads the directory as TensorFlow Serving will (a TF1 session, tag `serve`), with
neither Keras nor the training code around, and compares its answers with those the Keras model
gave. Two comparisons, each within 1e-6:

* sigmoid(served logit) with the Keras model's probability;
* the served probability with the NumPy calibration of the served logit. (Not of the Keras logit:
  a steep isotonic step would turn the last float32 bit of a logit into a visible difference.)
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.calibration import reference
from serving.columns import Column, parse_columns
from serving.session import SavedModelSession
from serving.warmup import request_inputs

TOLERANCE = 1e-6
_ROOT = Path(__file__).parents[1]
_TIMEOUT_SECONDS = 600


class VerificationError(ValueError):
    """The saved model does not answer as the model it was made from."""


@dataclass(frozen=True)
class Case:
    """Raw rows and the uncalibrated answers (B,) expected for them."""

    columns: tuple[Column, ...]
    rows: dict[str, np.ndarray]
    answer: str
    expected: np.ndarray
    calibration: tuple[Mapping, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain data; bytes travel as latin-1 text, floats exactly."""
        rows = {
            column.name: [value.decode("latin-1") for value in self.rows[column.name]]
            if column.dtype == "string"
            else self.rows[column.name].tolist()
            for column in self.columns
        }
        return {
            "columns": [vars(column) for column in self.columns],
            "rows": rows,
            "answer": self.answer,
            "expected": self.expected.tolist(),
            "calibration": list(self.calibration),
        }

    @classmethod
    def from_json(cls, data: Mapping) -> "Case":
        """The inverse of `to_json`."""
        columns = parse_columns(data["columns"])
        rows = {
            column.name: np.array([v.encode("latin-1") for v in data["rows"][column.name]], object)
            if column.dtype == "string"
            else np.array(data["rows"][column.name], np.float32)
            for column in columns
        }
        expected = np.array(data["expected"])
        return cls(columns, rows, data["answer"], expected, tuple(data["calibration"]))


def verify_in_fresh_process(directory: Path, case: Case) -> dict[str, object]:
    """Run this module on the SavedModel; returns its report.

    Raises:
        VerificationError: with the first reason found.
    """
    with tempfile.TemporaryDirectory() as folder:
        case_path, report_path = Path(folder) / "case.json", Path(folder) / "report.json"
        case_path.write_text(json.dumps(case.to_json()))
        command = [sys.executable, "-m", "serving.verify", directory, case_path, report_path]
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        try:
            finished = subprocess.run(
                [str(part) for part in command],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise VerificationError(
                f"the saved model could not be checked within {_TIMEOUT_SECONDS} s"
            ) from None
        if not report_path.exists():
            last = (finished.stderr.strip() or "no output").splitlines()[-1]
            raise VerificationError(f"the saved model could not be checked: {last}")
        report = json.loads(report_path.read_text())
    if report["failures"]:
        raise VerificationError(f"not published: {report['failures'][0]}")
    return {key: report[key] for key in ("rows", "tolerance", "largest_difference")}


def verify(directory: Path, case: Case) -> dict[str, object]:
    """Check every signature in this process.

    Returns:
        `rows`, `tolerance`, `largest_difference` (probability) and `failures` (one line each).
    """
    checks = _Checks(case)
    size = len(case.expected)
    with SavedModelSession(directory) as session:
        for signature in ("serving_default", "serialized_examples", "explain"):
            inputs = request_inputs(signature, case.columns, case.rows, size)
            checks.compare(signature, session.run(signature, inputs))
        one = session.run(
            "serving_default", request_inputs("serving_default", case.columns, case.rows, 1)
        )
        checks.compare("serving_default (one row)", one, slice(0, 1))
        _check_candidates(session, case, checks)
        _check_omitted(session, case, checks)
    return {
        "rows": size,
        "tolerance": TOLERANCE,
        "largest_difference": checks.largest,
        "failures": checks.failures,
    }


class _Checks:
    """Collects the comparisons of one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.largest = 0.0
        self.failures: list[str] = []

    def compare(self, what: str, got: Mapping[str, np.ndarray], part: slice = slice(None)) -> None:
        logit = got["logit"].astype(np.float64)
        if self.case.answer == "prediction":
            plain = calibrated = np.clip(logit, -1, 1)
        else:
            plain = reference(logit, [])
            calibrated = reference(logit, self.case.calibration)
        self.near(f"{what}: logit", plain, self.case.expected[part])
        self.near(f"{what}: {self.case.answer}", got[self.case.answer], calibrated)

    def near(self, what: str, got: np.ndarray, expected: np.ndarray) -> None:
        if got.shape != expected.shape:
            self.failures.append(f"{what} has shape {got.shape}, expected {expected.shape}")
            return
        difference = np.abs(got - expected)
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        if not difference[worst] <= TOLERANCE:  # NaN fails too
            self.failures.append(
                f"{what} is off by {difference[worst]:.3g} (tolerance {TOLERANCE:g}), row {worst}: "
                f"served {got[worst]:.9g}, expected {expected[worst]:.9g}"
            )
        self.largest = max(self.largest, float(np.nanmax(difference, initial=0.0)))


def _check_candidates(session: SavedModelSession, case: Case, checks: _Checks) -> None:
    """A shared context must score as the same rows with the context written out."""
    size = len(case.expected)
    grid = request_inputs("score_candidates", case.columns, case.rows, size)
    got = session.run("score_candidates", grid)
    written_out = {
        name: np.broadcast_to(values, (1, size)).reshape(-1) for name, values in grid.items()
    }
    expected = session.run("serving_default", written_out)
    for output in (case.answer, "logit"):
        if got[output].shape != (1, size):
            checks.failures.append(
                f"score_candidates: {output} has shape {got[output].shape}, expected {(1, size)}"
            )
            return
    checks.near("score_candidates", got[case.answer][0], expected[case.answer])


def _check_omitted(session: SavedModelSession, case: Case, checks: _Checks) -> None:
    """Omitted columns must score as columns of missing-value tokens."""
    optional = [column for column in case.columns if not column.required]
    if not optional:
        return
    size = len(case.expected)
    dropped = optional[-1]
    missing = np.full(size, dropped.missing, object if dropped.dtype == "string" else np.float32)
    given = {name: values for name, values in case.rows.items() if name != dropped.name}
    if not given:
        return
    expected = session.run("serving_default", {**given, dropped.name: missing})
    got = session.run("serving_default", given)
    checks.near(f"without column {dropped.name!r}", got[case.answer], expected[case.answer])


def main(arguments: list[str]) -> int:
    """Write the report; 0 when every comparison held."""
    directory, case_path, report_path = map(Path, arguments)
    report = verify(directory, Case.from_json(json.loads(case_path.read_text())))
    report_path.write_text(json.dumps(report))
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
