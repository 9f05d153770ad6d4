"""gate, canary, promote, rollback, deploy."""

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands import common

if TYPE_CHECKING:
    from pipeline.cli import Commands


def register(commands: "Commands") -> None:
    """Add the group's commands."""
    _register_gate(commands)
    for name, handler, summary in (
        ("canary", canary, "Serve a version as canary beside the stable one."),
        ("promote", promote, "Move the label stable to the canary."),
        (
            "rollback",
            rollback,
            "Withdraw the canary; without one, go back a version.",
        ),
    ):
        example = f"python -m pipeline {name} models.config --model ctr --server 127.0.0.1:8500"
        if name == "canary":
            example += " --version 4"
        parser = commands.add(name, handler, summary, example)
        parser.add_argument(
            "models_config", type=Path, metavar="MODELS_CONFIG", help="file the servers read"
        )
        parser.add_argument("--model", required=True, help="name of the model in the file")
        parser.add_argument(
            "--server",
            action="append",
            default=[],
            metavar="HOST:PORT",
            help="gRPC address of a server to tell (repeatable; none: they poll the file)",
        )
        parser.add_argument(
            "--timeout", type=float, default=60.0, help="seconds a version may take to load"
        )
        if name == "canary":
            parser.add_argument("--version", type=int, required=True, help="version to try")
    parser = commands.add(
        "deploy",
        deploy,
        "Render docker compose and Kubernetes files for a run's model, and check them.",
        "python -m pipeline deploy runs/movielens-100k-afm --output deploy/ --stable 1",
    )
    common.add_run(parser)
    parser.add_argument("--output", type=Path, required=True, help="directory to render into")
    parser.add_argument("--stable", type=int, help="stable version (default: the newest)")
    parser.add_argument("--canary", type=int, help="version served as canary")
    parser.add_argument("--replace", action="store_true", help="replace an earlier rendering")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting, as in replicas=3 or namespace=ads (repeatable)",
    )


def _register_gate(commands: "Commands") -> None:
    parser = commands.add(
        "gate",
        gate,
        "Compare a candidate version with the serving one; exit code 1 and the reasons if worse.",
        "python -m pipeline gate runs/movielens-100k-afm --candidate 2 --serving 1 "
        "--slice-by gender",
    )
    common.add_run(parser)
    parser.add_argument("--candidate", required=True, help="version number or label")
    parser.add_argument("--serving", required=True, help="version number or label")
    parser.add_argument(
        "--address", help="gRPC server that has both (default: one started for the purpose)"
    )
    parser.add_argument("--split", default="test", help="split with raw rows to compare on")
    parser.add_argument(
        "--slice-by", action="append", default=[], metavar="COLUMN", help="judge every value too"
    )
    parser.add_argument("--limits", type=Path, help="YAML: metrics: {auc: {worst:, relative:}} ...")


def gate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a labelled split with both versions."""
    from pipeline import console
    from pipeline.rundir import Run

    run = Run.load(arguments.run)
    console.start_tensorflow()
    from pipeline.gating import load_limits, run_gate

    report = run_gate(
        run,
        arguments.candidate,
        arguments.serving,
        address=arguments.address,
        split=arguments.split,
        slice_by=arguments.slice_by,
        limits=load_limits(arguments.limits) if arguments.limits else None,
    )
    if not arguments.json:
        for item in report.comparisons:
            if item.scope == "overall":
                print(
                    f"{item.metric:16} candidate {item.candidate:.5f}  serving {item.serving:.5f}"
                )
        print("passed" if report.passed else "refused")
        for reason in report.reasons:
            print(f"  {reason}")
    return report.to_json()


def canary(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a canary."""
    from serving.release import start_canary

    with _clients(arguments) as clients:
        return _told(
            arguments,
            start_canary(
                arguments.models_config,
                arguments.model,
                arguments.version,
                clients,
                arguments.timeout,
            ),
        )


def promote(arguments: argparse.Namespace) -> dict[str, Any]:
    """Canary becomes stable."""
    from serving.release import promote as move

    with _clients(arguments) as clients:
        state = move(arguments.models_config, arguments.model, clients, arguments.timeout)
        return _told(arguments, state)


def rollback(arguments: argparse.Namespace) -> dict[str, Any]:
    """One step back."""
    from serving.release import rollback as move

    with _clients(arguments) as clients:
        state = move(arguments.models_config, arguments.model, clients, arguments.timeout)
        return _told(arguments, state)


@contextlib.contextmanager
def _clients(arguments: argparse.Namespace) -> Any:
    from pipeline import console

    console.start_tensorflow()
    from serving.client import Client

    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Client(at, arguments.model)) for at in arguments.server]


def _told(arguments: argparse.Namespace, state: Any) -> dict[str, Any]:
    if not arguments.json:
        print("  ".join(f"{role}: {version}" for role, version in state.labels.items()))
    return state.labels


def deploy(arguments: argparse.Namespace) -> dict[str, Any]:
    """Render and validate."""
    import yaml

    from pipeline import console
    from pipeline.errors import PipelineError
    from pipeline.rundir import Run

    config = Run.load(arguments.run).config
    console.start_tensorflow()
    from serving.deploy import DeploySettings, render, validate
    from serving.export import versions
    from serving.release import ReleaseState

    folder = config.export.repository / config.served_name
    exported = versions(folder)
    stable = arguments.stable or max(exported, default=0)
    for version in (stable, arguments.canary):
        if version is not None and version not in exported:
            raise PipelineError(f"{folder}: no version {version or '1'}; export the run first")
    options = dict(option.partition("=")[::2] for option in arguments.option)
    settings = DeploySettings(
        model=config.served_name,
        repository=config.export.repository.resolve(),
        release=ReleaseState(stable=stable, canary=arguments.canary),
        **{key: yaml.safe_load(value) for key, value in options.items()},
    )
    files = render(settings, arguments.output, replace=arguments.replace)
    problems = validate(arguments.output)
    if not arguments.json:
        for path in files:
            print(path)
        print("\n".join(problems) or "every file checked: sound")
    return {"files": [str(path) for path in files], "problems": problems, "passed": not problems}
