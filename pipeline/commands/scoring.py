"""score and explain."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cli import Commands
    from pipeline.endpoint import Endpoint


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "score",
        score,
        "Score a CSV, TSV or Parquet file of raw rows.",
        "python -m pipeline score rows.csv --output scores.csv --address 127.0.0.1:8500 "
        "--model movielens-100k-afm",
    )
    parser.add_argument("input", type=Path, metavar="ROWS", help=".csv, .tsv or .parquet")
    parser.add_argument("--output", type=Path, required=True, help=".csv, .tsv or .parquet")
    parser.add_argument("--batch", type=int, default=1000, help="rows a request")
    _add_endpoint(parser)
    parser = commands.add(
        "explain",
        explain,
        "Which fields and pairs of fields made a row's score; draws the heat map.",
        "python -m pipeline explain rows.csv --row 3 "
        "--saved-model models_repository/movielens-100k-afm/1",
    )
    parser.add_argument("input", type=Path, metavar="ROWS", help=".csv, .tsv or .parquet")
    parser.add_argument("--row", type=int, default=1, help="row number, from 1")
    parser.add_argument("--top", type=int, default=8, help="how many fields and pairs to print")
    parser.add_argument("--plots", type=Path, default=Path(), help="folder of the heat map")
    parser.add_argument("--run", type=Path, help="run of a model served without names")
    _add_endpoint(parser)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", default="127.0.0.1:8500", help="host:port (gRPC) or http://host:port (REST)"
    )
    parser.add_argument("--model", help="served name")
    parser.add_argument("--version", type=int, help="one version rather than the newest")
    parser.add_argument("--label", help="the version so labelled, as in stable")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a request may take")
    parser.add_argument(
        "--wait", type=float, default=0.0, help="seconds to wait for a starting server"
    )
    parser.add_argument(
        "--saved-model", type=Path, metavar="DIR", help="a version directory, without a server"
    )


def _endpoint(arguments: argparse.Namespace) -> "Endpoint":
    from pipeline import console
    from pipeline.errors import PipelineError

    if not arguments.saved_model and not arguments.model:
        raise PipelineError("give --model NAME (with --address), or --saved-model DIR")
    if not arguments.input.is_file():
        raise FileNotFoundError(f"{arguments.input}: no such file")
    console.start_tensorflow()
    from pipeline.endpoint import LocalEndpoint, ServerEndpoint

    if arguments.saved_model:
        return LocalEndpoint(arguments.saved_model)
    return ServerEndpoint(
        arguments.address,
        arguments.model,
        version=arguments.version,
        label=arguments.label,
        wait=arguments.wait,
        timeout=arguments.timeout,
    )


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream the file through the model."""
    import contextlib
    import time

    from pipeline import console

    with contextlib.closing(_endpoint(arguments)) as endpoint:
        from pipeline.progress import bar
        from pipeline.score import score_file

        begun = time.perf_counter()
        with bar(console.console()) as report:
            rows = score_file(endpoint, arguments.input, arguments.output, arguments.batch, report)
        seconds = time.perf_counter() - begun
    if not arguments.json:
        print(f"{rows:,} rows in {seconds:.1f} s ({rows / seconds:,.0f} a second)")
        print(f"scores: {arguments.output}")
    return {"rows": rows, "seconds": seconds, "output": str(arguments.output)}


def explain(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print the strongest parts of one row's logit."""
    import contextlib

    with contextlib.closing(_endpoint(arguments)) as endpoint:
        from pipeline.explain import describe, heat_maps
        from pipeline.raw_rows import one_row, served_columns

        batch = one_row(arguments.input, arguments.row)
        rows = served_columns(batch, endpoint.columns, str(arguments.input), arguments.row - 1)
        answer = endpoint.explain(rows)
        fields = _field_names(arguments, answer)
        values = {name: _text(column[0]) for name, column in rows.items()}
        found = describe(answer, fields, values, arguments.top)
        plots = heat_maps(answer, fields, arguments.plots, arguments.row)
    found["plots"] = [str(path) for path in plots]
    if not arguments.json:
        print_explanation(found)
    return found


def _field_names(arguments: argparse.Namespace, answer: Any) -> list[str]:
    """As the served model says them; of one exported without, from the run, or else numbers."""
    if "fields" in answer:
        return [_text(name) for name in answer["fields"][0]]
    if arguments.run:
        from pipeline.rundir import Run

        return Run.load(arguments.run).read_json("dataset.json")["fields"]
    from pipeline.explain import count_fields

    return [f"field {number + 1}" for number in range(count_fields(answer))]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else f"{value:g}"


def print_explanation(found: dict[str, Any]) -> None:
    """The description as lines."""
    head = [f"{k} {found[k]:.6f}" for k in ("probability", "prediction", "logit") if k in found]
    print("  ".join(head))
    if "bias" in found:
        print(f"{found['bias']:+9.4f}  bias")
    for part in found.get("first_order", []):
        print(f"{part['contribution']:+9.4f}  {part['field']}")
    for key, pairs in found.items():
        if key.endswith("_contributions"):
            print(f"{key.replace('_', ' ')}:")
            for pair in pairs:
                print(f"{pair['contribution']:+9.4f}  {' x '.join(pair['pair'])}")
    for path in found.get("plots", []):
        print(f"heat map: {path}")
