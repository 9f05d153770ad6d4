"""The table of all models in models/README.md: trained alike on Frappe, recorded, rendered.

    python -m pipeline.experiments.zoo_table                  # trains what has no record yet
    python -m pipeline.experiments.zoo_table --render-only    # the table alone, from the records

Each model trains as `python -m pipeline train` would with zoo.yaml and its name; the test split is
read once, by the weights of the best validation epoch. A record is one JSON line, written as soon
as its model is done, so a stopped run goes on where it was.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline import console
from pipeline.config import RunConfig, load_config
from pipeline.files import fill_marks, write_text

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

HERE = Path(__file__).parent
CONFIG = HERE / "zoo.yaml"
RECORDS = HERE / "results" / "zoo.jsonl"
README = HERE.parents[1] / "models" / "README.md"
MARKS = ("<!-- generated: frappe table -->", "<!-- end -->")
METRICS = ("auc", "logloss", "rmse")
COLUMNS = {
    "model": "---",
    "order": "---",
    "AUC": "---:",
    "logloss": "---:",
    "RMSE": "---:",
    "best of epochs": "---:",
    "s/epoch": "---:",
    "parameters": "---:",
}


def main(arguments: list[str] | None = None) -> None:
    """Trains the models without a record, then writes the table."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.experiments.zoo_table")
    parser.add_argument("--prepared", type=Path, help="the prepared frappe-libfm dataset")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="these models alone")
    parser.add_argument("--runs", type=Path, help="keep the run directories here")
    parser.add_argument("--render-only", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    console.start_tensorflow()
    import models

    if not options.render_only:
        out = console.console()
        with tempfile.TemporaryDirectory() as scratch:
            for record in train_missing(
                options.only or models.names(), options.prepared, options.runs or Path(scratch)
            ):
                out.print(f"{record['model']}: AUC {record['test']['auc']:.4f}", highlight=False)
    write_table(README, read_records(RECORDS))


def train_missing(
    names: Iterable[str], prepared_path: Path | None, runs: Path
) -> Iterable[dict[str, Any]]:
    """Trains and records each model that has no record under today's setting and data."""
    from pipeline.rundir import load_prepared
    from pipeline.rundir import prepared_path as default_path

    prepared = load_prepared(prepared_path or default_path(load_config(CONFIG)))
    for name in names:
        config = model_config(name, prepared.path, runs / name)
        wanted = fingerprint(name, prepared.manifest["content_hash"])
        records = read_records(RECORDS)
        if records.get(name, {}).get("fingerprint") == wanted:
            continue
        record = {"model": name, **train(config, prepared), "fingerprint": wanted}
        write_records(RECORDS, {**read_records(RECORDS), name: record})
        yield record


def model_config(name: str, prepared: Path, output: Path) -> RunConfig:
    """zoo.yaml for one model; a model without embeddings loses `embedding_dim`."""
    import models
    from models.zoo import constructor_arguments

    config = load_config(
        CONFIG, [f"model.name={name}", f"data.prepared={prepared}", f"output={output}"]
    )
    accepted = constructor_arguments(models.entry(name).cls)
    kept = {key: value for key, value in config.model.arguments.items() if key in accepted}
    model = type(config.model)(name=name, **kept)
    return config.model_copy(update={"name": f"zoo-{name.replace('+', '-plus')}", "model": model})


def fingerprint(name: str, content_hash: str) -> str:
    """What a record stands for: model, setting and data; a change of one makes it out of date."""
    setting = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    text = json.dumps([name, setting, content_hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(config: RunConfig, prepared: "PreparedDataset") -> dict[str, Any]:
    """One run: its test metrics, epochs, seconds and parameters."""
    import keras

    from pipeline.evaluation import evaluate_run
    from pipeline.train import Trainer

    keras.utils.clear_session()
    result = Trainer(config, prepared, console.console()).train()
    test = evaluate_run(result.run, "test", prepared, plots=False)["test"]
    training = result.metrics["training"]
    return {
        "test": {metric: round(test[metric], 5) for metric in METRICS},
        "validation_auc": round(result.metrics["validation"]["auc"], 5),
        "epochs": training["epochs"],
        "best_epoch": training["best_epoch"],
        # The fastest epoch: the first one compiles, and other work may share the machine.
        "seconds_per_epoch": round(min(row["seconds"] for row in result.history), 2),
        "parameters": result.metrics["parameters"],
        "seed": config.seed,
        "data": prepared.manifest["content_hash"],
    }


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Records by model; none where there is no file."""
    if not path.is_file():
        return {}
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {record["model"]: record for record in records}


def write_records(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """One JSON line a model, sorted by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(records[name]) + "\n" for name in sorted(records)))


def render(records: Mapping[str, Mapping[str, Any]], order: Callable[[str], str]) -> str:
    """The Markdown table, best AUC first.

    Args:
        records: by model.
        order: the order of interactions of a model, in words.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'|'.join(COLUMNS.values())}|"]
    for name, record in sorted(records.items(), key=lambda item: -item[1]["test"]["auc"]):
        cells = [
            name,
            order(name),
            *(f"{record['test'][metric]:.4f}" for metric in METRICS),
            f"{record['best_epoch']} of {record['epochs']}",
            f"{record['seconds_per_epoch']:.1f}",
            f"{record['parameters']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_table(readme: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts the table between its two marks in the README.

    Raises:
        PipelineError: the README lacks a mark.
    """
    import models

    table = render(records, lambda name: models.entry(name).order)
    text = readme.read_text(encoding="utf-8")
    write_text(readme, fill_marks(text, MARKS, f"{table}\n", readme))


if __name__ == "__main__":
    sys.exit(main())
