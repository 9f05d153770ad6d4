"""`make demo`: MovieLens-100K from raw files to an answered, explained request."""

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline import stages
from pipeline.config import RunConfig, load_config
from pipeline.console import metrics_table, stage
from pipeline.errors import PipelineError
from pipeline.evaluation import served_inputs
from pipeline.explain import describe, heat_maps
from pipeline.local_server import serving
from pipeline.parity import TOLERANCE, Parity, check_server
from pipeline.rundir import Run
from serving.client import Client

SHOWN = ("rows", "label_rate", "auc", "pr_auc", "logloss", "calibration_ratio", "rmse")


def demo(directory: Path, source: Path | None, console: Console) -> dict[str, Any]:
    """Run every stage in `directory`; returns stage times, metrics and parity.

    Args:
        source: folder of the raw files; None fetches them.
        console: where the story is told.
    """
    times: dict[str, float] = {}
    afm, fm = (_config(f"movielens-100k-{name}", directory, source) for name in ("afm", "fm"))
    with stage("prepare: raw files -> Beam + TFT -> TFRecords", times):
        prepared = stages.prepare(afm, console)
    results = {}
    for config in (fm, afm):
        with stage(f"train {config.model.name.upper()}", times):
            results[config.model.name] = stages.train(config, prepared, console)
    with stage("evaluate on the test split", times):
        metrics = {
            name: stages.evaluate(result.run, prepared)["test"] for name, result in results.items()
        }
    run = results["afm"].run
    with stage("export: SavedModel with its preprocessing inside", times):
        version = stages.export(run, prepared)
        console.print(f"   published {version}, verified in a fresh process", highlight=False)
    with stage("serve, and score every raw test row over gRPC and REST", times):
        flags = (
            f"--model_name={afm.served_name}",
            f"--model_base_path={version.parent.resolve()}",
        )
        with serving(flags) as at:
            parity = check_server(run, prepared, {"gRPC": at.grpc, "REST": at.rest})
            answer = _explained(at.grpc, run, prepared)
    _tell(metrics, parity, answer, run)
    _next_commands(run, version, directory)
    console.print(f"\n[bold]{sum(times.values()):.0f} s in all[/bold]", highlight=False)
    if not all(item.passed for item in parity):
        raise PipelineError(f"served and trained probabilities differ by more than {TOLERANCE}")
    return {
        "seconds": {name: round(value, 2) for name, value in times.items()},
        "metrics": metrics,
        "parity": {item.protocol: item.largest for item in parity},
        "run": str(run.directory),
        "version": str(version),
    }


def _config(name: str, directory: Path, source: Path | None) -> RunConfig:
    overrides = [
        f"output={directory / name}",
        f"data.prepared={directory / 'prepared'}",
        f"export.repository={directory / 'models'}",
    ]
    if source:
        overrides.append(f"data.source={source}")
    return load_config(name, overrides)


def _explained(address: str, run: Run, prepared: Any) -> dict[str, Any]:
    """One raw test row, as sent, with the parts of its score."""
    sent = served_inputs(prepared, "test", slice(1))
    with Client(address, run.config.served_name) as client:
        answer = client.explain(sent)
    fields = [field["name"] for field in prepared.fields]
    values = {
        name: value[0].decode() if isinstance(value[0], bytes) else f"{value[0]:g}"
        for name, value in sent.items()
    }
    found = describe(answer, fields, values, top=5)
    found["sent"] = values
    found["plots"] = [str(path) for path in heat_maps(answer, fields, run.plots)]
    return found


def _tell(
    metrics: dict[str, dict[str, float]], parity: list[Parity], answer: dict[str, Any], run: Run
) -> None:
    from pipeline.commands.scoring import print_explanation

    columns = {
        name.upper(): {key: found[key] for key in SHOWN if key in found}
        for name, found in metrics.items()
    }
    metrics_table("MovieLens-100K, test split", columns)
    for item in parity:
        print(
            f"{item.protocol}: {item.rows:,} raw rows in {item.seconds:.1f} s; largest difference "
            f"from the Keras model on the TFRecords {item.largest:.1e}"
        )
    print("\none request:", " ".join(f"{k}={v}" for k, v in answer["sent"].items() if v))
    print_explanation(answer)


def _next_commands(run: Run, version: Path, directory: Path) -> None:
    here = Path(os.path.relpath(version.parent))
    rows = Path(os.path.relpath(next((directory / "prepared" / "raw").glob("test-*.parquet"))))
    name = run.config.served_name
    print("\ngo on with")
    print(f"  python -m pipeline serve --model_name={name} --model_base_path=$PWD/{here}")
    print(f"  python -m pipeline score {rows} --output scores.csv --model {name}")
    print(f"  python -m pipeline explain {rows} --row 7 --saved-model {here / version.name}")
    print(f"  plots: {os.path.relpath(run.plots)}")
