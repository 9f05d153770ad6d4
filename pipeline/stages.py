"""The stages of a whole run, each told on the console with its time."""

from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline import specs
from pipeline.config import RunConfig
from pipeline.evaluation import evaluate_run
from pipeline.progress import bar
from pipeline.rundir import Run, check_spec, load_prepared, prepared_path
from pipeline.train import Trainer, TrainResult
from preprocessing.job import prepare as run_job


def prepare(config: RunConfig, console: Console, again: bool = False) -> Any:
    """The configuration's prepared dataset, made where it is absent or of another spec.

    A dataset made from the same spec is taken as it is unless `again`: the job does not watch the
    raw files.
    """
    path = prepared_path(config)
    if not again and (path / "manifest.json").is_file():
        prepared = load_prepared(path)
        check_spec(config, prepared)
        console.print(f"   {path} is prepared already (--again prepares it anew)", highlight=False)
        return prepared
    spec = specs.load_spec(config.data.spec)
    folder = specs.raw_folder(
        config.data.spec,
        config.data.source,
        lambda text: console.print(f"   {text}", highlight=False),
    )
    with bar(console) as report:
        prepared = run_job(spec, path, folder, progress=report)
    splits = prepared.manifest["splits"]
    told = ", ".join(f"{name} {part['rows']:,}" for name, part in splits.items())
    console.print(
        f"   {prepared.manifest['num_features']:,} features in {len(prepared.fields)} fields; "
        f"rows: {told}",
        highlight=False,
    )
    return prepared


def train(config: RunConfig, prepared: Any, console: Console) -> TrainResult:
    """Fit, with the best weights restored."""
    return Trainer(config, prepared, console).train()


def evaluate(run: Run, prepared: Any) -> dict[str, dict[str, float]]:
    """The test split."""
    return evaluate_run(run, "test", prepared)


def export(run: Run, prepared: Any) -> Path:
    """Publish the next version."""
    from pipeline.publish import export_run

    return export_run(run, prepared)
