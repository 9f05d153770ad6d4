"""What has happened to every version since the server started: the source of status answers."""

import threading
from dataclasses import dataclass

from serving.embedded.errors import ServingError

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"


@dataclass(frozen=True)
class VersionState:
    """State of one version and, when it failed, why."""

    version: int
    state: str
    error: ServingError | None = None


class StateMonitor:
    """Latest state per model and version; unloaded and failed versions stay listed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, dict[int, VersionState]] = {}

    def publish(
        self, model: str, version: int, state: str, error: ServingError | None = None
    ) -> None:
        with self._lock:
            versions = self._states.setdefault(model, {})
            versions[version] = VersionState(version, state, error)

    def versions(self, model: str) -> list[VersionState]:
        """States of a model, highest version first; empty for a model never seen."""
        with self._lock:
            versions = self._states.get(model, {})
            return [versions[number] for number in sorted(versions, reverse=True)]
