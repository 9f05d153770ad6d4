"""Publishes a trained model as a version of a TensorFlow Serving model repository.

`<base_path>/<name>/<version>/` appears by one rename, whole, verified and never over an existing
version:

    saved_model.pb, variables/, assets/     the model, its preprocessing and its vocabularies
    assets.extra/tf_serving_warmup_requests real rows of every signature
    assets.extra/model_card.json, .md       what this model is
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from serving.calibration import parse_calibration, reference
from serving.columns import Column, as_vector, parse_columns
from serving.model_card import code_version, write_model_card
from serving.saved_model import write_saved_model
from serving.signatures import SIGNATURES, Scorer
from serving.verify import Case, verify_in_fresh_process
from serving.warmup import write_warmup

_NAME_EXCLUDED = set("/:\\\0")


class ExportError(ValueError):
    """The model cannot be published as asked."""


def export(
    model: Callable,
    transform: Callable,
    columns: Sequence[Mapping[str, object]],
    base_path: str | Path,
    name: str,
    version: int | None = None,
    *,
    rows: Mapping[str, Sequence[object]],
    calibration: Mapping | Sequence[Mapping] | None = None,
    card: Mapping[str, object] | None = None,
    task: str = "binary",
    fields: Sequence[str] = (),
) -> Path:
    """Export, verify in a fresh process, publish; returns the version's directory.

    Args:
        model: `{"ids", "values"}` (B, P) -> logits (B, 1), with `.explain(inputs)`.
        transform: trackable; raw columns (B,) -> `{"ids", "values"}`.
        columns: a manifest's `columns`: name, dtype (`string` or `float32`), and optionally
            `required: true` for a column that a request may not omit.
        base_path: the model repository.
        name: the model's name in it.
        version: default: one more than the highest one there.
        rows: real raw rows by column, for verification and warm-up.
        calibration: see serving.calibration.
        card: what else the model card shall say (data hash, configuration, metrics, ...).
        task: `binary` or `regression`.
        fields: names of the model's fields in order, which `explain` then answers with.

    Raises:
        ExportError: bad name, version or rows.
        FileExistsError: the version is there already.
        serving.verify.VerificationError: the saved model does not answer as the given one.
    """
    columns = parse_columns(columns)
    rows = _checked_rows(columns, rows)
    folder = _model_folder(Path(base_path), name)
    _check_version_free(folder, version)
    scorer = Scorer(model, transform, columns, parse_calibration(calibration), task, fields)
    folder.mkdir(parents=True, exist_ok=True)
    # The prefix is no integer, so that a server watching the folder never sees a half version.
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=folder) as staging:
        staged = Path(staging) / "model"
        try:
            write_saved_model(staged, scorer)
            records = write_warmup(staged, name, columns, rows)
        except tf.errors.OpError as error:  # TensorFlow's own words for a full disk, among others
            raise ExportError(f"{folder}: cannot be written: {_first_line(error)}") from error
        report = verify_in_fresh_process(staged, _case(scorer, rows))
        write_model_card(
            staged, {**_own_facts(scorer, name, records), "verification": report, **(card or {})}
        )
        return _publish(staged, folder, version)


def versions(folder: Path) -> dict[int, Path]:
    """Version directories of one model, by number: the names TensorFlow Serving would see."""
    if not folder.is_dir():
        return {}
    found = {}
    for child in sorted(folder.iterdir()):
        if child.name.isascii() and child.name.isdigit():
            found[int(child.name)] = child
    return found


def _first_line(error: tf.errors.OpError) -> str:
    return str(error.message).splitlines()[0]


def _model_folder(base_path: Path, name: str) -> Path:
    if not name or set(name) & _NAME_EXCLUDED or name.startswith("."):
        raise ExportError(f"model name {name!r}: expected no '/', ':' or '\\' and no leading '.'")
    return base_path / name


def _check_version_free(folder: Path, version: int | None) -> None:
    if version is None:
        return
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**63:
        raise ExportError(f"version {version!r}: expected a positive integer below 2^63")
    if version in versions(folder):
        raise FileExistsError(f"{folder / str(version)} exists; versions are never overwritten")


def _checked_rows(
    columns: Sequence[Column], rows: Mapping[str, Sequence[object]]
) -> dict[str, np.ndarray]:
    absent = [column.name for column in columns if column.name not in rows]
    if absent:
        raise ExportError(f"rows: no values for column {absent[0]!r}")
    vectors = {column.name: as_vector(column, rows[column.name]) for column in columns}
    lengths = {name: len(vector) for name, vector in vectors.items()}
    if len(set(lengths.values())) != 1 or not next(iter(lengths.values())):
        raise ExportError(f"rows: expected one or more rows in every column, got {lengths}")
    return vectors


def _case(scorer: Scorer, rows: Mapping[str, np.ndarray]) -> Case:
    """What the Keras model itself says of the rows: the truth the saved model must tell."""
    raw = {name: tf.constant(vector) for name, vector in rows.items()}
    features = scorer.transform(raw)
    inputs = {"ids": features["ids"], "values": features["values"]}
    logits = np.asarray(scorer.model(inputs, training=False), np.float32).reshape(-1)
    if not np.all(np.isfinite(logits)):
        bad = int(np.flatnonzero(~np.isfinite(logits))[0])
        raise ExportError(f"the model answers {logits[bad]} for row {bad} of the given rows")
    regression = scorer.task == "regression"
    answers = np.clip(logits, -1, 1) if regression else reference(logits, [])
    return Case(
        columns=scorer.columns,
        rows=dict(rows),
        answer="prediction" if regression else "probability",
        expected=np.asarray(answers, np.float64),
        calibration=tuple(scorer.calibration),
    )


def _own_facts(scorer: Scorer, name: str, records: int) -> dict[str, object]:
    return {
        "name": name,
        "task": scorer.task,
        "exported_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "signatures": list(SIGNATURES),
        "columns": [vars(column) for column in scorer.columns],
        "calibration": scorer.calibration,
        "tensorflow": tf.__version__,
        "code_version": code_version(),
        "warmup_records": records,
    }


def _publish(staged: Path, folder: Path, version: int | None) -> Path:
    while True:
        number = max(versions(folder), default=0) + 1 if version is None else version
        target = folder / str(number)
        try:
            if number in versions(folder):
                raise FileExistsError(target)
            # rename(2) refuses a target directory that is not empty.
            return staged.rename(target)
        except OSError as error:
            taken = number in versions(folder)
            if version is None and taken:
                continue  # somebody else published this number meanwhile: take the next
            if taken:
                raise FileExistsError(f"{target} exists; versions are never overwritten") from error
            raise


def remove_version(base_path: str | Path, name: str, version: int) -> None:
    """Withdraw a version: renamed out of the server's sight at once, then deleted.

    Raises:
        FileNotFoundError: no such version.
    """
    folder = _model_folder(Path(base_path), name)
    found = versions(folder)
    if version not in found:
        raise FileNotFoundError(f"{folder} has no version {version}")
    with tempfile.TemporaryDirectory(prefix=".withdrawn-", dir=folder) as aside:
        shutil.move(found[version], Path(aside) / "model")
