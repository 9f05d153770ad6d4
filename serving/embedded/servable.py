"""A version that is loaded: its model, its batching queues, and the count of who is using it."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serving.embedded.engine import SavedModel


@dataclass(frozen=True)
class Work:
    """A decoded request: what to run, and how to write the answer.

    Attributes:
        api: `Predict`, `Classify`, `Regress` or `MultiInference`, as metrics call it.
        feed_names: graph tensors to feed.
        feeds: their arrays.
        fetch_names: graph tensors to fetch.
        finish: makes the response body of the fetched arrays.
    """

    api: str
    feed_names: tuple[str, ...]
    feeds: Sequence[np.ndarray]
    fetch_names: tuple[str, ...]
    finish: Callable[[list[np.ndarray]], bytes]


class BatchRunner(Protocol):
    """What a servable asks of server-side batching."""

    def submit(self, work: Work, deadline: float | None) -> "Future[list[np.ndarray]]":
        """Queue the work; the future carries its outputs or the error of its batch."""

    def close(self) -> None:
        """Fail what still waits and stop taking work."""


class Servable:
    """One loaded version. Requests acquire it, so an unload can wait for the last of them.

    Args:
        name: model name.
        version: version number.
        model: the loaded SavedModel.
        batcher: batching queues, or None to run each request by itself.
        on_run: told model, API and seconds of every run of the graph.
    """

    def __init__(
        self,
        name: str,
        version: int,
        model: SavedModel,
        batcher: BatchRunner | None = None,
        on_run: Callable[[str, str, float], None] | None = None,
    ):
        self.name = name
        self.version = version
        self.model = model
        self.batcher = batcher
        self.on_run = on_run
        self._users = 0
        self._idle = threading.Condition()

    def acquire(self) -> None:
        with self._idle:
            self._users += 1

    def release(self) -> None:
        with self._idle:
            self._users -= 1
            if not self._users:
                self._idle.notify_all()

    def wait_until_idle(self) -> None:
        """Block until nobody uses the version. No new request may be able to find it."""
        with self._idle:
            self._idle.wait_for(lambda: not self._users)

    def run(self, work: Work) -> list[np.ndarray]:
        """Run one request by itself.

        Raises:
            tf.errors.OpError: whatever the graph raised.
        """
        return self.execute(work.api, work.feed_names, work.feeds, work.fetch_names)

    def execute(
        self,
        api: str,
        feed_names: Sequence[str],
        feeds: Sequence[np.ndarray],
        fetch_names: Sequence[str],
    ) -> list[np.ndarray]:
        """Run the graph, for one request or for a batch of them, and tell how long it took."""
        started = time.perf_counter()
        outputs = self.model.run(feed_names, feeds, fetch_names)
        if self.on_run is not None:
            self.on_run(self.name, api, time.perf_counter() - started)
        return outputs

    def close(self) -> None:
        """Free the model. Only after it is idle."""
        if self.batcher is not None:
            self.batcher.close()
        self.model.close()
