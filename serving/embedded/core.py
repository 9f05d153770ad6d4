"""The server's state: configured models, labels, polling, and which version a request means."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tensorflow_serving.apis import model_pb2

from serving.embedded import states
from serving.embedded.discovery import list_versions, wanted_versions
from serving.embedded.errors import (
    ServingError,
    failed_precondition,
    invalid_argument,
    not_found,
)
from serving.embedded.model_config import ModelEntry, read_entries
from serving.embedded.servable import Servable
from serving.embedded.version_manager import VersionManager
from serving.server_config import ModelServerConfig

logger = logging.getLogger(__name__)


class ServerCore:
    """Applies configurations, polls base paths and answers "which servable is this".

    Args:
        manager: loads and unloads versions.
        monitor: states for status answers.
        poll_interval: seconds between polls of the base paths; 0 polls only when a
            configuration is applied, a negative number never.
        labels_for_unavailable: a new label may point to a version that is not available.
    """

    def __init__(
        self,
        manager: VersionManager,
        monitor: states.StateMonitor,
        *,
        poll_interval: float = 1.0,
        labels_for_unavailable: bool = False,
    ):
        self.manager = manager
        self.monitor = monitor
        self._poll_interval = poll_interval
        self._labels_for_unavailable = labels_for_unavailable
        self._entries: dict[str, ModelEntry] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._config_lock = threading.Lock()
        self._closed = threading.Event()
        self._poller: threading.Thread | None = None

    def apply(self, config: ModelServerConfig) -> list[str]:
        """Replace the configuration. Models not listed any more are unloaded.

        Returns:
            Names of the models that the previous configuration did not have.

        Raises:
            ServingError: the configuration is refused; the old one stays in force.
        """
        entries = read_entries(config)
        with self._config_lock:
            labels = {name: self._checked_labels(entry) for name, entry in entries.items()}
            new = [name for name in entries if name not in self._entries]
            dropped = [name for name in self._entries if name not in entries]
            self._entries, self._labels = entries, labels
            for name in dropped:
                self.manager.set_wanted(name, {})
        if self._poll_interval >= 0:
            self.poll()
        self._start_poller()
        return new

    def _checked_labels(self, entry: ModelEntry) -> dict[str, int]:
        current = self._labels.get(entry.name, {})
        for label, version in entry.labels.items():
            moved = label in current and current[label] != version
            if self._labels_for_unavailable and not moved:
                continue
            if not self.manager.is_available(entry.name, version):
                raise failed_precondition(
                    f"Request to assign label to version {version} of model {entry.name}, which "
                    "is not currently available for inference"
                )
        return entry.labels

    def poll(self) -> None:
        """List every base path once; a missing one leaves all models as they are."""
        with self._config_lock:
            try:
                found = {
                    entry.name: wanted_versions(list_versions(Path(entry.base_path)), entry.policy)
                    for entry in self._entries.values()
                }
            except FileNotFoundError as error:
                logger.error("FileSystemStoragePathSource: %s", error)
                return
            for name, versions in found.items():
                self.manager.set_wanted(name, versions)

    def _start_poller(self) -> None:
        if self._poll_interval > 0 and self._poller is None:
            self._poller = threading.Thread(target=self._poll_loop, name="poller", daemon=True)
            self._poller.start()

    def _poll_loop(self) -> None:
        while not self._closed.wait(self._poll_interval):
            self.poll()

    def wait_until_settled(
        self,
        models: Iterable[str],
        timeout: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Block until every model has a version available or has finally failed.

        Raises:
            ServingError: UNKNOWN naming the models that failed; DEADLINE_EXCEEDED after
                `timeout` seconds; CANCELLED when `cancelled()` turned true or the core closed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pending = set(models)
        failed: set[str] = set()
        while pending:
            for name in list(pending):
                outcome = self.manager.outcome(name)
                if outcome != "pending":
                    pending.discard(name)
                    if outcome == "failed":
                        failed.add(name)
            if pending and (cancelled() or self._closed.is_set()):
                raise ServingError("CANCELLED", "No longer waiting for models to load")
            if pending and end is not None and time.monotonic() > end:
                raise ServingError(
                    "DEADLINE_EXCEEDED", f"Not loaded in time: {', '.join(sorted(pending))}"
                )
            if pending:
                time.sleep(0.02)
        if failed:
            raise ServingError("UNKNOWN", self._failure_text(sorted(failed)))

    def _failure_text(self, failed: list[str]) -> str:
        reasons = []
        for name in failed:
            for state in self.monitor.versions(name):
                if state.error is not None:
                    text = state.error.nested()
                    reasons.append(
                        f"{{Servable id: {{name: {name} version: {state.version}}}: {text}}}"
                    )
        return f"{len(failed)} servable(s) did not become available: {{{', '.join(reasons)}}}"

    def find(self, spec: model_pb2.ModelSpec) -> Servable:
        """The servable that a ModelSpec means, acquired: the caller must release it.

        Raises:
            ServingError: INVALID_ARGUMENT for an empty name or unknown label, NOT_FOUND for a
                model or version that is not available.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return self.find_version(spec.name, spec.version.value)
        if choice == "version_label":
            return self.find_version(spec.name, self.labelled(spec.name, spec.version_label))
        return self.find_version(spec.name, None)

    def find_version(self, name: str, version: int | None) -> Servable:
        """As `find`, by name and version number (None for the latest available)."""
        servable = self.manager.acquire(name, version)
        if servable is None:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise not_found(f"Servable not found for request: {wanted}")
        return servable

    def labelled(self, name: str, label: str) -> int:
        """Version number a label stands for.

        Raises:
            ServingError: INVALID_ARGUMENT for an unknown label.
        """
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {label}")
        return version

    def stop_waiting(self) -> None:
        """Stop polling and let everyone go who waits for models to load."""
        self._closed.set()

    def close(self, timeout: float = 10.0) -> bool:
        """Stop polling and unload everything; whether that was done within `timeout` seconds."""
        self.stop_waiting()
        return self.manager.close(timeout)
