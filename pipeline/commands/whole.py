"""run and demo: every stage in one command."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands import common

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "run",
        run,
        "Prepare, train, evaluate and export in one.",
        "python -m pipeline run movielens-100k-afm --set training.epochs=5",
    )
    common.add_config(parser)
    parser.add_argument("--again", action="store_true", help="prepare the dataset anew")
    parser = commands.add(
        "demo",
        demo,
        "MovieLens-100K from raw files to an answered, explained request.",
        "python -m pipeline demo --data ~/Downloads/ml-100k",
    )
    parser.add_argument("--data", type=Path, help="folder of ml-100k's own files (default: fetch)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="where everything goes"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All stages of one configuration."""
    from pipeline import console

    config = common.load(arguments)
    console.start_tensorflow()
    from pipeline import stages
    from pipeline.model import check_names

    check_names(config)  # rather than after hours of preparing
    out, times = console.console(), {}
    with console.stage("prepare", times):
        prepared = stages.prepare(config, out, arguments.again)
    with console.stage("train", times):
        result = stages.train(config, prepared, out)
    with console.stage("evaluate", times):
        found = stages.evaluate(result.run, prepared)
    with console.stage("export", times):
        version = stages.export(result.run, prepared)
    if not arguments.json:
        console.metrics_table(config.name, {"validation": result.metrics["validation"], **found})
        print(f"run directory: {result.run.directory}")
        print(f"published {version}")
        print(
            f"next: python -m pipeline serve --model_name={version.parent.name} "
            f"--model_base_path={version.parent.resolve()}"
        )
    return {
        "run": str(result.run.directory),
        "version": str(version),
        "metrics": {"validation": result.metrics["validation"], **found},
        "seconds": times,
    }


def demo(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole way on real data."""
    from pipeline import console

    console.start_tensorflow()
    from pipeline.demo import demo as tell

    # With --json the result alone goes to stdout; the story moves to stderr.
    with contextlib.redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        return tell(arguments.output, arguments.data, console.console())
