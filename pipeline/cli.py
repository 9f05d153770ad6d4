"""`python -m pipeline COMMAND`: one small module per command group under `pipeline/commands`.

Modules of a group import only the standard library at the top, so that `--help` answers at once;
what a command needs it imports when it runs.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

GROUPS = ("whole", "data", "training", "search", "reproduce", "serving", "scoring", "release")
_EXIT_MISTAKE = 2
_EXIT_INTERRUPTED = 130

Handler = Callable[[argparse.Namespace], Any]


class Commands:
    """What a group's `register(commands)` adds its commands to."""

    def __init__(self, parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
        self._common = common

    def add(
        self, name: str, handler: Handler, summary: str, example: str, **options: Any
    ) -> argparse.ArgumentParser:
        """A command; `handler(arguments)` returns what `--json` prints (or None)."""
        parser = self._subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self._common],
            **options,
        )
        parser.set_defaults(handler=handler)
        return parser


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="From raw click logs to answered requests.",
        epilog="example:\n  python -m pipeline run movielens-100k-afm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = Commands(parser, common)
    for group in GROUPS:
        importlib.import_module(f"pipeline.commands.{group}").register(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 it succeeded, 1 a check failed, 2 a mistake, 3 data unlike a baseline."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if not hasattr(arguments, "handler"):
        parser.print_help()
        return _EXIT_MISTAKE
    if rest and not getattr(arguments, "takes_rest", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        result = arguments.handler(arguments)
    except (ValueError, OSError) as error:
        if arguments.debug:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return _EXIT_MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    if arguments.json and result is not None:
        print(json.dumps(result, indent=2, default=str))
    if not isinstance(result, dict):
        return 0
    return result.get("exit_code", int(result.get("passed") is False))


def one_line(error: Exception) -> str:
    """The error's message as one line; the file's name is part of an OSError's."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if hasattr(error, "errors"):  # pydantic, whose own text has several lines
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        return "; ".join(problems)
    text = " ".join(str(error).split())
    return text or type(error).__name__
