"""tune."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands import common

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "tune",
        tune,
        "Search over any keys of a configuration; an interrupted search goes on.",
        "python -m pipeline tune movielens-100k-afm --space space.yaml --trials 30",
    )
    common.add_config(parser)
    parser.add_argument(
        "--space",
        type=Path,
        required=True,
        help="YAML file with metric, trials, pruning and space; pipeline/README.md shows one",
    )
    parser.add_argument("--trials", type=int, help="trials in all, earlier ones included")
    parser.add_argument("--output", type=Path, help="search directory (default: runs/tune-<name>)")


def tune(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the search and print the best trial."""
    from pipeline import console

    config = common.load(arguments)
    console.start_tensorflow()
    from pipeline.errors import PipelineError
    from pipeline.tune import Search, load_space

    space = load_space(arguments.space)
    if arguments.trials is not None:
        if arguments.trials < 1:
            raise PipelineError(f"--trials must be at least 1, got {arguments.trials}")
        space = space.model_copy(update={"trials": arguments.trials})
    directory = arguments.output or Path("runs") / f"tune-{config.name}"
    best = Search(config, space, directory, console.console()).run()
    if not arguments.json:
        print(f"best {best['metric']} {best['value']:.5f} in trial {best['trial']}")
        for key, value in best["parameters"].items():
            print(f"  {key}: {value}")
        print(f"table, plot and best.yaml: {directory}")
        print(f"next: python -m pipeline run {directory / 'best.yaml'}")
    return best
