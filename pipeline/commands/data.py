"""datasets and prepare."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "datasets",
        datasets,
        "List the datasets that ship with a spec, or fetch the raw files of one.",
        "python -m pipeline datasets fetch movielens-100k",
    )
    parser.add_argument("action", choices=("list", "fetch"))
    parser.add_argument("name", nargs="?", help="dataset to fetch")
    parser.add_argument("--data", type=Path, help="cache folder (default: CTR_DATA or the user's)")
    parser = commands.add(
        "prepare",
        prepare,
        "Raw log to prepared dataset, by Beam and TensorFlow Transform.",
        "python -m pipeline prepare my-log.yaml --data logs/ --output data/prepared/my-log",
    )
    parser.add_argument("spec", metavar="SPEC", help="dataset spec: a YAML file or a shipped name")
    parser.add_argument("--data", type=Path, help="folder of the raw files (default: the spec's)")
    parser.add_argument(
        "--output", type=Path, help="where to publish (default: data/prepared/<spec name>)"
    )
    parser.add_argument("--workers", type=int, default=1, help="local worker processes")
    parser.add_argument(
        "--beam",
        action="append",
        default=[],
        metavar="OPTION",
        help="a Beam pipeline option, as in --beam=--runner=FlinkRunner (repeatable)",
    )


def datasets(arguments: argparse.Namespace) -> Any:
    """List or fetch."""
    from pipeline import console

    if arguments.action == "list":
        console.start_tensorflow()
        from preprocessing import fetch, presets

        found = [
            {
                "name": name,
                "fetch": name in fetch.fetchable(),
                "description": presets.spec(name).description,
            }
            for name in presets.names()
        ]
        if not arguments.json:
            from rich.console import Console
            from rich.table import Table

            table = Table("name", "can be fetched", "what")
            for row in found:
                table.add_row(row["name"], "yes" if row["fetch"] else "no", row["description"])
            Console().print(table)
        return found
    from pipeline.errors import PipelineError

    if not arguments.name:
        raise PipelineError("datasets fetch: which one? see `python -m pipeline datasets list`")
    from preprocessing import fetch

    say = console.console().print
    path = fetch.fetch(arguments.name, arguments.data, say=lambda text: say(text, highlight=False))
    if not arguments.json:
        print(path)
    return {"name": arguments.name, "path": str(path)}


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the preparation job."""
    from pipeline import console, specs

    spec = specs.load_spec(arguments.spec)
    out = console.console()
    folder = specs.raw_folder(
        arguments.spec, arguments.data, lambda text: out.print(text, highlight=False)
    )
    console.start_tensorflow()
    from pipeline.progress import bar
    from preprocessing.job import prepare as run_job

    with bar(out) as report:
        prepared = run_job(
            spec,
            arguments.output or specs.prepared_folder(arguments.spec),
            folder,
            workers=arguments.workers,
            beam_options=arguments.beam,
            progress=report,
        )
    manifest = prepared.manifest
    if not arguments.json:
        for name, split in manifest["splits"].items():
            print(f"{name}: {split['rows']:,} rows, {split['positives']:,} positive")
        print(f"{manifest['num_features']:,} features in {len(manifest['fields'])} fields")
        print(f"prepared: {prepared.path}")
    return {
        "path": str(prepared.path),
        **{key: manifest[key] for key in ("splits", "num_features", "counters", "content_hash")},
    }
