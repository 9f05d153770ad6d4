"""The gate before a promotion, on a run's own labelled raw rows."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml

from pipeline.errors import PipelineError, nearest
from pipeline.evaluation import served_inputs
from pipeline.local_server import serving as start_server
from pipeline.rundir import Run
from serving.client import Client
from serving.gate import GateReport, Limit, Limits, gate

WAIT_SECONDS = 120.0


def load_limits(path: Path) -> Limits:
    """Limits from YAML: `metrics: {name: {worst:, relative:}}`, `slice_slack`, `min_rows`.

    Raises PipelineError naming the key at fault.
    """
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = ("metrics", "slice_slack", "min_rows")
    for key in tree:
        if key not in known:
            raise PipelineError(f"{path}: unknown key {key!r}{nearest(key, known)}")
    metrics = {}
    for name, bounds in tree.pop("metrics", {}).items():
        odd = sorted(set(bounds) - {"worst", "relative"})
        if odd:
            raise PipelineError(
                f"{path}: metrics.{name}: unknown key {odd[0]!r} (known: worst, relative)"
            )
        metrics[name] = Limit(**bounds)
    return Limits(**({"metrics": metrics} if metrics else {}), **tree)


def run_gate(
    run: Run,
    candidate: str,
    serving: str,
    *,
    address: str | None = None,
    split: str = "test",
    slice_by: Sequence[str] = (),
    limits: Limits | None = None,
) -> GateReport:
    """Score the split's raw rows with both versions and judge.

    Args:
        candidate, serving: version numbers, or labels of a running server.
        address: gRPC server; None starts one with both versions of the model repository.
    """
    prepared = run.load_prepared()
    rows = served_inputs(prepared, split)
    labels = np.asarray(prepared.raw(split).column("label"), np.float32)
    with contextlib.ExitStack() as stack:
        at = address or stack.enter_context(_both(run, candidate, serving))
        clients = [
            stack.enter_context(Client(at, run.config.served_name, timeout=60.0, **_which(text)))
            for text in (candidate, serving)
        ]
        for client in clients:
            client.wait_until_available(WAIT_SECONDS, client.target.version)
        return gate(*clients, rows, labels, limits=limits, slice_by=slice_by)


def _which(text: str) -> dict[str, int | str]:
    return {"version": int(text)} if text.isdigit() else {"label": text}


@contextlib.contextmanager
def _both(run: Run, *versions: str) -> Iterator[str]:
    """A server of its own with exactly these versions loaded."""
    labels = [text for text in versions if not text.isdigit()]
    if labels:
        raise PipelineError(f"{labels[0]!r} is a label, which needs a running server: --address")
    folder = (run.config.export.repository / run.config.served_name).resolve()
    specific = " ".join(f"versions: {text}" for text in sorted(set(versions)))
    text = (
        f'model_config_list {{ config {{ name: "{run.config.served_name}" '
        f'base_path: "{folder}" model_platform: "tensorflow" '
        f"model_version_policy {{ specific {{ {specific} }} }} }} }}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "models.config"
        path.write_text(text, encoding="utf-8")
        with start_server([f"--model_config_file={path}"]) as at:
            yield at.grpc
