"""The loop that loads and unloads versions: one step at a time per model, never leaving a gap."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serving.embedded import states
from serving.embedded.errors import ServingError, from_exception
from serving.embedded.servable import Servable

logger = logging.getLogger(__name__)

Loader = Callable[[str, int, Path], Servable]

_NEW, _LOADING, _WAITING, _READY, _FAILED, _UNLOADING = range(6)


@dataclass
class _Harness:
    """Life of one version, from wanted to unloaded."""

    version: int
    path: Path
    phase: int = _NEW
    wanted: bool = True
    attempts: int = 0
    retry_at: float = 0.0
    servable: Servable | None = None


class VersionManager:
    """Turns "these versions are wanted" into loaded versions, keeping every model available.

    A version that is no longer wanted is unloaded only when a wanted one is available, when
    nothing is wanted, or when more than one unwanted version is still up. New versions load
    highest first. A failed load is retried; when the tries are spent the version ends with its
    error and is left alone until it disappears from the wanted ones and comes back.

    Args:
        load: makes a servable (including its warm-up) or raises.
        monitor: told of every state change.
        max_retries: tries after the first.
        retry_interval: seconds between tries.
        load_threads: loads at a time.
        tick: seconds between steps when nothing wakes the loop.
    """

    def __init__(
        self,
        load: Loader,
        monitor: states.StateMonitor,
        *,
        max_retries: int = 5,
        retry_interval: float = 60.0,
        load_threads: int = 1,
        tick: float = 0.1,
    ):
        self._load = load
        self._monitor = monitor
        self._max_retries = max_retries
        self._retry_interval = retry_interval
        self._tick = tick
        self._condition = threading.Condition()
        self._models: dict[str, dict[int, _Harness]] = {}
        self._serving: dict[str, dict[int, Servable]] = {}
        self._closed = False
        self._loaders = ThreadPoolExecutor(load_threads, thread_name_prefix="model-load")
        self._thread = threading.Thread(target=self._loop, name="version-manager", daemon=True)
        self._thread.start()

    def set_wanted(self, model: str, versions: dict[int, Path]) -> None:
        """Replace the set of wanted versions of one model; the loop does the rest."""
        with self._condition:
            harnesses = self._models.setdefault(model, {})
            for version, path in versions.items():
                known = harnesses.get(version)
                if known is None:
                    harnesses[version] = _Harness(version, path)
                    self._monitor.publish(model, version, states.START)
                else:
                    known.wanted = True
            for version, harness in harnesses.items():
                if version not in versions:
                    harness.wanted = False
            self._condition.notify_all()

    def models(self) -> list[str]:
        with self._condition:
            return list(self._models)

    def acquire(self, model: str, version: int | None = None) -> Servable | None:
        """The given version, or the highest available one, held for the caller; None if none."""
        with self._condition:
            versions = self._serving.get(model)
            if not versions:
                return None
            servable = versions[max(versions)] if version is None else versions.get(version)
            if servable is not None:
                servable.acquire()
            return servable

    def loaded(self, model: str) -> list[Servable]:
        """Servables in memory, highest version first, those being unloaded among them."""
        with self._condition:
            held = [h for h in self._models.get(model, {}).values() if h.servable is not None]
            return [h.servable for h in sorted(held, key=lambda h: -h.version)]

    def is_available(self, model: str, version: int) -> bool:
        with self._condition:
            return version in self._serving.get(model, {})

    def outcome(self, model: str) -> str:
        """`available`, `failed` (every wanted version has given up) or `pending`."""
        with self._condition:
            if self._serving.get(model):
                return "available"
            wanted = [h for h in self._models.get(model, {}).values() if h.wanted]
            if wanted and all(h.phase == _FAILED for h in wanted):
                return "failed"
            return "pending"

    def close(self, timeout: float = 10.0) -> bool:
        """Stop the loop and free every version.

        Args:
            timeout: seconds that requests in flight get.

        Returns:
            Whether everything was freed in time.
        """
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout)
        self._loaders.shutdown(wait=True, cancel_futures=True)
        with self._condition:
            for model, harnesses in self._models.items():
                for harness in harnesses.values():
                    if harness.phase == _READY:
                        self._start_unload(model, harness)
            return self._condition.wait_for(self._all_unloaded, timeout)

    def _all_unloaded(self) -> bool:
        return not any(
            h.phase == _UNLOADING for versions in self._models.values() for h in versions.values()
        )

    def _loop(self) -> None:
        while True:
            with self._condition:
                if self._closed:
                    return
                for model in list(self._models):
                    self._step(model)
                self._condition.wait(self._tick)

    def _step(self, model: str) -> None:
        harnesses = self._models[model]
        for harness in list(harnesses.values()):
            # Given up or never begun: nothing to unload, so it is simply forgotten.
            if not harness.wanted and harness.phase in (_NEW, _WAITING, _FAILED):
                if harness.phase != _FAILED:
                    self._monitor.publish(model, harness.version, states.END)
                del harnesses[harness.version]
        unload = self._version_to_unload(harnesses)
        if unload is not None:
            self._start_unload(model, unload)
            return
        load = self._version_to_load(harnesses)
        if load is not None:
            load.phase = _LOADING
            load.attempts += 1
            self._monitor.publish(model, load.version, states.LOADING)
            self._loaders.submit(self._load_one, model, load)

    @staticmethod
    def _version_to_unload(harnesses: dict[int, _Harness]) -> _Harness | None:
        ready = [h for h in harnesses.values() if h.phase == _READY]
        unwanted = sorted((h for h in ready if not h.wanted), key=lambda h: h.version)
        if not unwanted:
            return None
        nothing_wanted = not any(h.wanted for h in harnesses.values())
        wanted_available = len(ready) > len(unwanted)
        if nothing_wanted or wanted_available or len(unwanted) > 1:
            return unwanted[0]
        return None

    @staticmethod
    def _version_to_load(harnesses: dict[int, _Harness]) -> _Harness | None:
        now = time.monotonic()
        due = [
            h
            for h in harnesses.values()
            if h.wanted and (h.phase == _NEW or (h.phase == _WAITING and h.retry_at <= now))
        ]
        return max(due, key=lambda h: h.version, default=None)

    def _load_one(self, model: str, harness: _Harness) -> None:
        failed = False
        try:
            servable = self._load(model, harness.version, harness.path)
        except Exception as error:
            failure = from_exception(error)
            # A new object: the one raised holds, by its traceback, the whole half-loaded graph.
            self._load_failed(model, harness, ServingError(failure.code, failure.message))
            del failure
            failed = True
        if failed:
            gc.collect()  # a tf.Graph is full of reference cycles, and each holds the whole graph
            return
        with self._condition:
            harness.servable = servable
            harness.phase = _READY
            self._serving.setdefault(model, {})[harness.version] = servable
            self._monitor.publish(model, harness.version, states.AVAILABLE)
            self._condition.notify_all()
        logger.info("Successfully loaded servable version {%s %d}", model, harness.version)

    def _load_failed(self, model: str, harness: _Harness, error: ServingError) -> None:
        logger.error("Loading servable {%s %d} failed: %s", model, harness.version, error.nested())
        with self._condition:
            if harness.attempts <= self._max_retries and harness.wanted:
                harness.phase = _WAITING
                harness.retry_at = time.monotonic() + self._retry_interval
            else:
                harness.phase = _FAILED
                self._monitor.publish(model, harness.version, states.END, error)
            self._condition.notify_all()

    def _start_unload(self, model: str, harness: _Harness) -> None:
        # Called with the lock held. From here on no request can find the version.
        harness.phase = _UNLOADING
        del self._serving[model][harness.version]
        self._monitor.publish(model, harness.version, states.UNLOADING)
        name = f"model-unload-{model}-{harness.version}"
        threading.Thread(
            target=self._unload_one, args=(model, harness), name=name, daemon=True
        ).start()

    def _unload_one(self, model: str, harness: _Harness) -> None:
        harness.servable.wait_until_idle()
        harness.servable.close()
        harness.servable = None
        gc.collect()
        with self._condition:
            self._monitor.publish(model, harness.version, states.END)
            del self._models[model][harness.version]
            if harness.wanted:  # asked for again in the meantime
                self._models[model][harness.version] = _Harness(harness.version, harness.path)
            self._condition.notify_all()
        logger.info("Done unloading servable version {%s %d}", model, harness.version)
