"""export and serve."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands import common

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "export",
        export,
        "Publish a trained run to the model repository, verified in a fresh process.",
        "python -m pipeline export runs/movielens-100k-afm",
    )
    common.add_run(parser)
    parser.add_argument("--prepared", help="prepared dataset, where it is not at its old place")
    parser.add_argument("--repository", type=Path, help="model repository (default: as configured)")
    parser.add_argument("--name", help="served name (default: as configured)")
    parser.add_argument("--version", type=int, help="version number (default: the next)")
    parser = commands.add(
        "serve",
        serve,
        "Serve models as TensorFlow Serving does; all further flags are its own.",
        "python -m pipeline serve --model_name=movielens-100k-afm "
        "--model_base_path=models_repository/movielens-100k-afm",
        add_help=False,  # the server's own parser answers --help
        allow_abbrev=False,
    )
    parser.set_defaults(takes_rest=True)


def export(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the next version."""
    from pipeline import console
    from pipeline.rundir import Run

    run = Run.load(arguments.run)
    console.start_tensorflow()
    from pipeline.publish import export_run

    path = export_run(
        run,
        run.load_prepared(arguments.prepared),
        arguments.version,
        arguments.repository,
        arguments.name,
    )
    if not arguments.json:
        print(f"published {path}")
        print(
            f"next: python -m pipeline serve --model_name={path.parent.name} "
            f"--model_base_path={path.parent.resolve()}"
        )
    return {"path": str(path), "name": path.parent.name, "version": int(path.name)}


def serve(arguments: argparse.Namespace) -> None:
    """Hand over to the embedded server until it is told to stop."""
    from pipeline import console

    console.start_tensorflow()
    from serving.embedded.command import main

    flags = [
        f"--model_base_path={Path(flag.partition('=')[2]).resolve()}"
        if flag.startswith("--model_base_path=")
        else flag
        for flag in arguments.rest
    ]
    code = main(flags, prog="python -m pipeline serve")
    if code:
        raise SystemExit(code)
