"""Canary, promotion and rollback of a model by rewriting a server's models.config.

The file says everything; there is no other state. A model under release control is served with
explicit versions and three labels:

    stable    what clients ask for
    canary    the candidate, beside it
    previous  what was stable before, kept loaded so that a rollback is instant

A label may only point at a version that is available, so a change goes in steps: load what will
be needed, wait for it, move the labels, drop what is no longer needed. When a step fails the old
file is put back. Clients under release control must ask for a label: a request without one goes
to the highest version, which is the canary.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import text_format

from serving.client import Client, ClientError
from serving.server_config import ModelServerConfig, read_models_config

STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"


class ReleaseError(ValueError):
    """The release step does not apply to what is configured, or a server refused it."""


@dataclass(frozen=True)
class ReleaseState:
    """Versions by role; None where a role is empty."""

    stable: int | None = None
    canary: int | None = None
    previous: int | None = None

    @property
    def versions(self) -> list[int]:
        """Every version that has a role, ascending."""
        return sorted({v for v in (self.stable, self.canary, self.previous) if v is not None})

    @property
    def labels(self) -> dict[str, int]:
        """Role name -> version."""
        return {role: version for role, version in vars(self).items() if version is not None}

    def with_canary(self, version: int) -> "ReleaseState":
        """`version` beside the stable one; with no stable version yet it becomes that."""
        if self.stable is None:
            return ReleaseState(stable=version)
        if version == self.stable:
            raise ReleaseError(f"version {version} is the stable one already")
        return replace(self, canary=version)

    def promoted(self) -> "ReleaseState":
        """The canary becomes stable, the stable version previous."""
        if self.canary is None:
            raise ReleaseError("there is no canary to promote")
        return ReleaseState(stable=self.canary, previous=self.stable)

    def rolled_back(self) -> "ReleaseState":
        """The last step undone: a canary is withdrawn; without one, previous becomes stable."""
        if self.canary is not None:
            return replace(self, canary=None)
        if self.previous is None:
            raise ReleaseError("there is neither a canary to withdraw nor a previous version")
        return ReleaseState(stable=self.previous)


def read_state(config_path: str | Path, model: str) -> ReleaseState:
    """The roles in a models.config.

    Raises:
        ReleaseError: the model is not in the file.
    """
    return _state_of(_entry(read_models_config(config_path), model, config_path))


def start_canary(
    config_path: str | Path,
    model: str,
    version: int,
    clients: Sequence[Client] = (),
    timeout: float = 60.0,
) -> ReleaseState:
    """Serve `version` as canary (the first one as stable). Otherwise as `rollback`."""
    state = read_state(config_path, model).with_canary(version)
    return _change(Path(config_path), model, state, clients, timeout)


def promote(
    config_path: str | Path, model: str, clients: Sequence[Client] = (), timeout: float = 60.0
) -> ReleaseState:
    """Make the canary stable. Arguments and errors as for `rollback`."""
    state = read_state(config_path, model).promoted()
    return _change(Path(config_path), model, state, clients, timeout)


def rollback(
    config_path: str | Path, model: str, clients: Sequence[Client] = (), timeout: float = 60.0
) -> ReleaseState:
    """Withdraw the canary; without one, make the previous version stable again.

    Args:
        config_path: the file every server was started with.
        model: its name in the file.
        clients: one (gRPC) per server to tell. None where the servers poll the file themselves:
            they need `--model_config_file_poll_wait_seconds` and, to take a label and its version
            in one step, `--allow_version_labels_for_unavailable_models`.
        timeout: seconds each version may take to load.

    Raises:
        ReleaseError: nothing to roll back to, or a server refused; the file is as before then.
    """
    state = read_state(config_path, model).rolled_back()
    return _change(Path(config_path), model, state, clients, timeout)


def write_models_config(path: str | Path, config: ModelServerConfig) -> None:
    """Replace the file in one rename, so that a polling server never reads half of it."""
    path = Path(path)
    text = text_format.MessageToString(config)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as aside:
        try:
            aside.write(text)
            aside.flush()
            os.fsync(aside.fileno())
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            Path(aside.name).chmod(mode)
            Path(aside.name).replace(path)
        except BaseException:
            Path(aside.name).unlink(missing_ok=True)
            raise


def configure(
    config: ModelServerConfig, model: str, versions: Sequence[int], labels: dict[str, int]
) -> ModelServerConfig:
    """A copy of the configuration with the model's versions and labels replaced."""
    changed = ModelServerConfig()
    changed.CopyFrom(config)
    entry = _entry(changed, model, "the configuration")
    entry.ClearField("version_labels")
    entry.model_version_policy.Clear()
    entry.model_version_policy.specific.versions.extend(versions)
    for label, version in labels.items():
        entry.version_labels[label] = version
    return changed


def _change(
    path: Path, model: str, state: ReleaseState, clients: Sequence[Client], timeout: float
) -> ReleaseState:
    old = read_models_config(path)
    before = _state_of(_entry(old, model, path))
    final = configure(old, model, state.versions, state.labels)
    if not clients:
        write_models_config(path, final)
        return state
    both = sorted({*before.versions, *state.versions})
    steps = [configure(old, model, both, labels) for labels in (before.labels, state.labels)]
    try:
        for step in [*steps, final]:
            _apply(path, step, clients)
            for client in clients:
                for version in state.versions:
                    client.wait_until_available(timeout, version)
    except ClientError as error:
        _restore(path, old, clients)
        raise ReleaseError(f"{model}: not changed, a server refused: {error}") from error
    return state


def _apply(path: Path, config: ModelServerConfig, clients: Sequence[Client]) -> None:
    write_models_config(path, config)
    for client in clients:
        client.reload_config(config, timeout=120.0)


def _restore(path: Path, old: ModelServerConfig, clients: Sequence[Client]) -> None:
    write_models_config(path, old)
    for client in clients:
        try:
            client.reload_config(old, timeout=120.0)
        except ClientError:
            continue  # this server is what failed; the file tells it the rest when it is back


def _entry(config: ModelServerConfig, model: str, where: object):
    for entry in config.model_config_list.config:
        if entry.name == model:
            return entry
    names = ", ".join(sorted(e.name for e in config.model_config_list.config)) or "no model"
    raise ReleaseError(f"{where}: has no model {model!r}, it has {names}")


def _state_of(entry) -> ReleaseState:
    roles = {role: entry.version_labels.get(role) for role in (STABLE, CANARY, PREVIOUS)}
    return ReleaseState(**roles)
