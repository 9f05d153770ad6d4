"""What several commands share."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import RunConfig


def add_config(parser: argparse.ArgumentParser) -> None:
    """CONFIG and --set."""
    parser.add_argument(
        "config", metavar="CONFIG", help="run configuration: a YAML file or a shipped name"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key, as in training.epochs=3 (repeatable)",
    )


def load(arguments: argparse.Namespace) -> "RunConfig":
    """The configuration named on the command line."""
    from pipeline.config import load_config

    return load_config(arguments.config, arguments.set)


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("run", metavar="RUN", help="run directory, as in runs/movielens-100k-afm")
