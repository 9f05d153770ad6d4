"""datasets, prepare and inspect."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cli import Commands

_EXIT_ANOMALY = 3


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "datasets",
        datasets,
        "List the datasets that ship with a spec, fetch the raw files of one, or write a first"
        " spec for a log of your own.",
        "python -m pipeline datasets infer clicks.csv.gz --output clicks.yaml",
    )
    parser.add_argument("action", choices=("list", "fetch", "infer"))
    parser.add_argument("name", nargs="?", help="dataset to fetch, or log (file, folder) to judge")
    parser.add_argument("--data", type=Path, help="cache folder (default: CTR_DATA or the user's)")
    parser.add_argument("--output", type=Path, help="spec to write (default: print it)")
    parser.add_argument("--force", action="store_true", help="replace an existing --output")
    parser = commands.add(
        "prepare",
        prepare,
        "Raw log to prepared dataset, by Beam and TensorFlow Transform.",
        "python -m pipeline prepare my-log.yaml --data logs/ --output data/prepared/my-log",
    )
    parser.add_argument("spec", metavar="SPEC", help="dataset spec: a YAML file or a shipped name")
    parser.add_argument(
        "--data", help="folder of the raw files, gs://... too (default: the spec's)"
    )
    parser.add_argument(
        "--output", help="where to publish, gs://... too (default: data/prepared/<spec name>)"
    )
    parser.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="FILE",
        help="add this file of --data to the dataset at --output: only it is analysed (repeatable)",
    )
    parser.add_argument(
        "--keep-ids",
        action="store_true",
        help="with --append: known values keep their ids, new values follow them",
    )
    parser.add_argument("--workers", type=int, default=1, help="local worker processes")
    parser.add_argument(
        "--runner",
        help="run on a cluster: FlinkRunner, SparkRunner, DataflowRunner, ...; Beam's options"
        " for it follow as --name=value (preprocessing/README.md shows each)",
    )
    parser.add_argument(
        "--beam",
        action="append",
        default=[],
        metavar="OPTION",
        help="a Beam option passed on unchecked, as in --beam=--name=value (repeatable)",
    )
    parser.set_defaults(takes_rest=True)
    parser = commands.add(
        "inspect",
        inspect,
        "Statistics of a prepared dataset, plotted, and compared with an earlier one: exit code 3"
        " if a threshold of the spec is passed.",
        "python -m pipeline inspect data/prepared/tuesday --baseline data/prepared/monday",
    )
    parser.add_argument("prepared", metavar="PREPARED", help="prepared dataset, gs://... too")
    parser.add_argument("--baseline", help="prepared dataset to compare with")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the plots (default: PREPARED/report; needed for a PREPARED elsewhere)",
    )


def datasets(arguments: argparse.Namespace) -> Any:
    """List, fetch or infer."""
    from pipeline import console

    if arguments.action == "infer":
        return _infer(arguments)
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


def _infer(arguments: argparse.Namespace) -> dict[str, Any]:
    """A first spec for a log: printed, or written to --output."""
    from pipeline import console
    from pipeline.errors import PipelineError
    from pipeline.files import write_text

    if not arguments.name:
        raise PipelineError("datasets infer: which file? as in `datasets infer clicks.csv`")
    output = arguments.output
    replaced = bool(output and output.exists())
    if replaced and not arguments.force:
        raise FileExistsError(f"{output} exists: not replaced (--force replaces it)")
    console.start_tensorflow()
    from preprocessing.infer import infer

    text = infer(arguments.name, output.absolute().parent if output else None)
    if output:
        write_text(output, text)
    if not arguments.json:
        print(f"{'replaced' if replaced else 'wrote'} {output}" if output else text.rstrip("\n"))
    return {"path": str(output) if output else None, "replaced": replaced, "spec": text}


def _beam_options(arguments: argparse.Namespace) -> list[str]:
    """What --runner, the words after it and --beam say. Raises PipelineError for a mistake."""
    from pipeline.errors import PipelineError

    if not arguments.runner:
        if arguments.rest:
            raise PipelineError(
                f"unrecognized arguments: {' '.join(arguments.rest)} (Beam's options need --runner)"
            )
        return arguments.beam
    if arguments.workers != 1:
        raise PipelineError("--workers is of the local runner; a cluster has --parallelism=N")
    from preprocessing.beam_options import beam_options, check_reachable

    options = [*beam_options(arguments.runner, arguments.rest), *arguments.beam]
    check_reachable(options)
    return options


def _check_same_name(name: str, target: str | Path) -> None:
    """Raises PipelineError unless the dataset to grow is the one that the spec names."""
    from pipeline.errors import PipelineError
    from preprocessing.prepared import PreparedDataset

    there = PreparedDataset.load(target).manifest["name"]
    if there != name:
        raise PipelineError(f"--append: {target} holds '{there}', not '{name}'")


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the preparation job."""
    from pipeline import console, specs
    from pipeline.errors import PipelineError

    if arguments.keep_ids and not arguments.append:
        raise PipelineError("--keep-ids goes with --append FILE")
    options = _beam_options(arguments)
    spec = specs.load_spec(arguments.spec)
    out = console.console()
    folder = specs.raw_folder(
        arguments.spec, arguments.data, lambda text: out.print(text, highlight=False)
    )
    console.start_tensorflow()
    from pipeline.progress import bar
    from preprocessing import job

    target = arguments.output or specs.prepared_folder(arguments.spec)
    how = {"workers": arguments.workers, "beam_options": options}
    with bar(out) as report:
        if arguments.append:
            _check_same_name(spec.name, target)
            root = job.root_of(spec, folder)
            files, kept = arguments.append, arguments.keep_ids
            prepared = job.append(files, target, root, keep_ids=kept, progress=report, **how)
        else:
            prepared = job.prepare(spec, target, folder, progress=report, **how)
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


def inspect(arguments: argparse.Namespace) -> dict[str, Any]:
    """Show, plot and compare statistics."""
    from pipeline import console

    console.start_tensorflow()
    import json

    from rich.console import Console

    from pipeline import inspect_report
    from pipeline.errors import PipelineError
    from preprocessing import drift
    from preprocessing.prepared import PreparedDataset

    prepared = PreparedDataset.load(arguments.prepared)
    folder = arguments.output or prepared.path / "report"
    if not isinstance(folder, Path):
        raise PipelineError(f"inspect: {prepared.path} is not on this machine: name --output")
    file = prepared.path / "stats.json"
    if not file.is_file():
        raise PipelineError(f"{prepared.path}: no stats.json: prepare it again")
    stats = json.loads(file.read_text(encoding="utf-8"))
    findings = []
    if arguments.baseline:
        findings = drift.compare(prepared, PreparedDataset.load(arguments.baseline))
    anomalies = [finding for finding in findings if finding.anomaly]
    plain = [finding.plain() for finding in findings]
    name = prepared.manifest["name"]
    page = inspect_report.write_report(stats, folder, name, plain)
    if not arguments.json:
        Console().print(inspect_report.terminal_table(stats, name))
        if arguments.baseline:
            print(f"{len(findings)} comparisons with {arguments.baseline}, anomalies: ", end="")
            print(len(anomalies))
        for finding in anomalies:
            print(f"anomaly: {finding}")
        print(f"plots: {page}")
    return {
        "path": str(prepared.path),
        "report": str(page),
        "stats": stats,
        "comparison": plain,
        "exit_code": _EXIT_ANOMALY if anomalies else 0,
    }
