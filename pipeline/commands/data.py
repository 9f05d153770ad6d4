"""prepare and inspect."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
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


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the preparation job."""
    from pipeline import console, specs

    spec = specs.load_spec(arguments.spec)
    output = arguments.output or Path("data") / "prepared" / Path(arguments.spec).stem
    console.start_tensorflow()
    from pipeline.progress import bar
    from preprocessing.job import prepare as run_job

    with bar(console.console()) as report:
        prepared = run_job(
            spec,
            output,
            specs.data_folder(arguments.spec, arguments.data),
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
