"""train, evaluate, models."""

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.commands import common

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "train",
        train,
        "Train a model on a prepared dataset.",
        "python -m pipeline train movielens-100k-afm --set training.epochs=3",
    )
    common.add_config(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the run's newest checkpoint; without it a run of that name is replaced",
    )
    parser = commands.add(
        "evaluate",
        evaluate,
        "Metrics and plots of a trained run on one split.",
        "python -m pipeline evaluate runs/movielens-100k-afm --split test",
    )
    common.add_run(parser)
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--prepared", help="prepared dataset, where it is not at its old place")
    commands.add(
        "models",
        list_models,
        "Every model: name, paper, order of interactions, when to use it.",
        "python -m pipeline models",
    ).add_argument("model", nargs="?", help="one model: its constructor arguments too")


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit the configured model."""
    from pipeline import console

    config = common.load(arguments)
    console.start_tensorflow()
    from pipeline.train import Trainer

    result = Trainer(config, console=console.console()).train(resume=arguments.resume)
    if not arguments.json:
        shown = {name: v for name, v in result.metrics.items() if _is_split(v)}
        console.metrics_table(f"{config.model.name}, {config.name}", shown)
        print(f"run directory: {result.run.directory}")
        print(f"next: python -m pipeline evaluate {result.run.directory}")
    return {"run": str(result.run.directory), **result.metrics}


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a split."""
    from pipeline import console
    from pipeline.rundir import Run

    run = Run.load(arguments.run)
    console.start_tensorflow()
    from pipeline.evaluation import evaluate_run

    prepared = run.load_prepared(arguments.prepared)
    found = evaluate_run(run, arguments.split, prepared)
    if not arguments.json:
        console.metrics_table(str(run.directory), found)
        print(f"plots: {run.plots}")
    return found


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and "auc" in value


def list_models(arguments: argparse.Namespace) -> Any:
    """Print the registry."""
    from pipeline import console

    console.start_tensorflow()
    import models
    from models.zoo import constructor_arguments

    if arguments.model:
        entry = models.entry(arguments.model)
        found = {
            **{key: getattr(entry, key) for key in ("name", "paper", "order", "use", "defaults")},
            "arguments": constructor_arguments(entry.cls),
        }
        if not arguments.json:
            for key, value in found.items():
                print(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
        return found
    entries = [models.entry(name) for name in models.names()]
    found = [{key: getattr(e, key) for key in ("name", "paper", "order", "use")} for e in entries]
    if not arguments.json:
        from rich.console import Console
        from rich.table import Table

        table = Table("name", "paper", "order", "when to use it")
        for row in found:
            table.add_row(*row.values())
        Console().print(table)
    return found
