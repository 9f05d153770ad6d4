"""Options for Beam's runners, checked before a job starts, and the defaults this job needs."""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from preprocessing.errors import PrepareError
from preprocessing.spec_errors import near

# Options that only the runner's Java side declares, so Beam's Python parser does not know them.
_FLINK_ONLY = ("flink_conf_dir",)
# Python workers are kept between the stages of a job for so long, not started for each.
_DEFAULTS = {
    "FlinkRunner": {"environment_cache_millis": "60000"},
    "SparkRunner": {"environment_cache_millis": "60000"},
}
_PLACES = {
    "FlinkRunner": ("job_endpoint", "flink_master"),
    "SparkRunner": ("job_endpoint", "spark_master_url"),
    "PortableRunner": ("job_endpoint",),
}
_CONNECT_SECONDS = 5
_CLOUD = ("project", "region", "temp_location")


def beam_options(runner: str, given: Sequence[str]) -> tuple[str, ...]:
    """The options of a run on `runner`, from `--name=value` words as given on a command line.

    Raises PrepareError naming an unknown runner or option, a malformed word, or what is missing.
    """
    _check_runner(runner)
    names = [_name(word) for word in given]
    parser = _parser()
    known = {flag.lstrip("-") for action in parser._actions for flag in action.option_strings}
    known |= set(_FLINK_ONLY) if runner == "FlinkRunner" else set()
    for name in names:
        if name not in known:
            raise PrepareError(f"--{name}: no option of Beam{near(name, sorted(known))}")
    options = [re.sub(r"^--([^=]+)", f"--{n}", w) for n, w in zip(names, given, strict=True)]
    _check_values(parser, options)
    _check_complete(runner, names, options)
    for name, value in _DEFAULTS.get(runner, {}).items():
        if name not in names:
            options.append(f"--{name}={value}")
    return (f"--runner={runner}", *options)


def check_reachable(options: Sequence[str]) -> None:
    """Raises PrepareError if nothing listens where the options say that the job server is.

    Beam itself would wait for minutes.
    """
    for word in options:
        name, _, place = word.partition("=")
        if name != "--job_endpoint":
            continue
        host, _, port = place.rpartition(":")
        if not host or not port.isdecimal():
            raise PrepareError(f"{word}: expected --job_endpoint=HOST:PORT")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PrepareError(f"{word}: no job server answers there ({reason})") from error


def _check_runner(runner: str) -> None:
    known = [path.rsplit(".", 1)[-1] for path in StandardOptions.ALL_KNOWN_RUNNERS]
    if runner not in known:
        raise PrepareError(
            f"--runner: no runner '{runner}'{near(runner, known)}; one of {', '.join(known)}"
        )


def _name(word: str) -> str:
    """`--flink-master=x` is the option flink_master: Beam's Java side writes dashes."""
    found = re.fullmatch(r"--([A-Za-z][\w-]*)(=.*)?", word, re.S)
    if not found:
        raise PrepareError(f"{word}: expected a Beam option written --name=value")
    return found[1].replace("-", "_")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser


def _check_values(parser: argparse.ArgumentParser, options: Sequence[str]) -> None:
    parser.error = _refuse  # type: ignore[method-assign, assignment]
    try:
        parser.parse_known_args(list(options))
    except argparse.ArgumentError as error:
        _refuse(str(error))


def _refuse(message: str) -> None:
    raise PrepareError(f"Beam options: {message}")


def _check_complete(runner: str, names: Sequence[str], options: Sequence[str]) -> None:
    places = _PLACES.get(runner, ())
    if places and not set(places) & set(names):
        where = " or ".join(f"--{place}=HOST:PORT" for place in places)
        raise PrepareError(f"{runner}: where is the cluster? Give {where}")
    if runner == "DataflowRunner":
        for name in _CLOUD:
            if name not in names:
                raise PrepareError(f"{runner}: --{name}=... is needed")
    needy = {"--environment_type=EXTERNAL", "--environment_type=PROCESS"} & set(options)
    if needy and "environment_config" not in names:
        raise PrepareError(
            f"{needy.pop()}: --environment_config=... is needed beside it (EXTERNAL: the worker"
            " pool's HOST:PORT; PROCESS: JSON with the command)"
        )
