"""reproduce."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    parser = commands.add(
        "reproduce",
        reproduce,
        "Re-run a published table: train its models, record them, write table and plots.",
        "python -m pipeline reproduce frappe-ctr-bars --only fm --seeds 1 --data frappe/",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        default="list",
        help="table, the beginning of several, or interpret; list shows what there is",
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="these rows alone")
    parser.add_argument("--seeds", type=int, metavar="N", help="the first N seeds (default: all)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the records there are, and go on where a run was cut",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the raw files")
    parser.add_argument(
        "--prepared", type=Path, metavar="DIR", help="folder of prepared datasets, by spec name"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/reproduce"), help="folder of the run directories"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder of records (default: the committed ones)",
    )


def reproduce(arguments: argparse.Namespace) -> Any:
    """Train what is asked, then write README and plots beside the records."""
    from pipeline.errors import PipelineError
    from pipeline.experiments import definition, records

    results = arguments.results or records.RESULTS
    if arguments.name == "list":
        return _list(arguments.json, results)
    name = arguments.name
    also_functions = definition.FUNCTIONS.startswith(f"{name}-") and not arguments.only
    if name == definition.FUNCTIONS:
        chosen = []
        if arguments.only:
            raise PipelineError(f"--only: {name} is run whole")
    else:
        chosen = definition.selection(name, arguments.only)
    from pipeline import console

    console.start_tensorflow()
    from pipeline.experiments import functions, readme, session

    found = []
    for experiment, rows in chosen:
        found += session.reproduce(
            experiment,
            rows,
            results,
            arguments.runs,
            seeds=arguments.seeds,
            resume=arguments.resume,
            data=arguments.data,
            prepared=arguments.prepared,
            console=console.console(),
        )
    if also_functions or not chosen:
        found += functions.reproduce(results, console.console(), arguments.seeds, arguments.resume)
    written = readme.write(results)
    if not arguments.json:
        print(f"records: {results}")
        print(f"tables and plots: {written}")
    return found


def _list(as_json: bool, results: Path) -> list[dict[str, Any]]:
    """Tables, their rows, and how many runs are recorded."""
    from pipeline.experiments import definition, records

    found = []
    for name in definition.names():
        experiment = definition.load(name)
        kept = records.load(name, results)
        found.append(
            {
                "table": name,
                "what": experiment.table.title,
                "rows": list(experiment.rows),
                "recorded": sorted({record["row"] for record in kept}),
            }
        )
    kept = records.load(definition.FUNCTIONS, results)
    recorded = sorted({record["row"] for record in kept})
    what, rows = "FM and network fitted to two functions", definition.FUNCTION_ROWS
    found.append({"table": definition.FUNCTIONS, "what": what, "rows": rows, "recorded": recorded})
    if not as_json:
        from rich.console import Console
        from rich.table import Table

        shown = Table("table", "what", "rows recorded")
        for entry in found:
            count = f"{len(entry['recorded'])} of {len(entry['rows'])}"
            shown.add_row(entry["table"], entry["what"], count)
        Console().print(shown)
    return found
