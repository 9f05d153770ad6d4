"""Export a trained run to the model repository."""

import platform
from pathlib import Path
from typing import Any

import keras

from pipeline.errors import PipelineError
from pipeline.evaluation import served_inputs
from pipeline.rundir import Run
from serving.export import export

WARMUP_ROWS = 256


def export_run(
    run: Run,
    prepared: Any = None,
    version: int | None = None,
    repository: Path | None = None,
    name: str | None = None,
) -> Path:
    """Publish the run's model as the next (or given) version; returns the version's directory.

    Raises PipelineError where the prepared dataset keeps no raw rows to verify the model with, and
    on another backend than TensorFlow, which a SavedModel is made of.
    """
    if (backend := keras.config.backend()) != "tensorflow":
        raise PipelineError(
            f"KERAS_BACKEND: a SavedModel is made on tensorflow, this is {backend}; the run is "
            "exported without KERAS_BACKEND, wherever it was trained"
        )
    prepared = prepared or run.load_prepared()
    config = run.config
    kept = prepared.manifest["spec"].get("keep_raw", ())
    if not kept:
        raise PipelineError(
            f"{prepared.path}: no raw rows were kept to verify and warm up the model with; "
            "set keep_raw: [test] in the dataset spec and prepare again"
        )
    split = "test" if "test" in kept else kept[0]
    return export(
        run.load_model(),
        prepared.transform(),
        prepared.manifest["columns"],
        repository or config.export.repository,
        name or config.served_name,
        version,
        rows=served_inputs(prepared, split, slice(WARMUP_ROWS)),
        calibration=run.read_json("calibration.json"),
        card=model_card(run, prepared),
        task=config.training.task,
        fields=[field["name"] for field in prepared.manifest["fields"]],
    )


def model_card(run: Run, prepared: Any) -> dict[str, Any]:
    """What the card says of data, configuration and quality."""
    manifest = prepared.manifest
    metrics = run.read_json("metrics.json", {})
    return {
        "run": str(run.directory),
        "intended_use": (
            f"Ranks and prices impressions like those of the dataset {manifest['name']!r}; "
            "judge it on a recent split of your own log before it serves."
        ),
        "data": {
            "name": manifest["name"],
            "content_hash": manifest["content_hash"],
            "features": manifest["num_features"],
            "rows": {name: part["rows"] for name, part in manifest["splits"].items()},
        },
        "fields": [
            {
                "name": field["name"],
                "kind": field["kind"],
                "cardinality": field.get("vocabulary_size"),
            }
            for field in manifest["fields"]
        ],
        "metrics": {
            name: value
            for name, value in metrics.items()
            if isinstance(value, dict) and "auc" in value
        },
        "training": metrics.get("training", {}),
        "parameters": metrics.get("parameters"),
        "configuration": run.config.model_dump(mode="json"),
        "versions": {"keras": keras.__version__, "python": platform.python_version()},
    }
