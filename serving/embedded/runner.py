"""Runs decoded requests off the event loop, within bounds, and keeps their deadlines."""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from serving.embedded.batching import late as late_in_queue
from serving.embedded.errors import ServingError
from serving.embedded.servable import Servable, Work

T = TypeVar("T")
Planner = Callable[[], tuple[Servable, Work]]
_LOOP_BODY_LIMIT = 64 * 1024


class Admission:
    """Counts requests (and their bytes) in the house and turns away those beyond the limits.

    Args:
        max_requests: requests admitted at a time, running or queued.
        max_bytes: bytes of REST bodies and gRPC messages held at a time.
    """

    def __init__(self, max_requests: int, max_bytes: int):
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Admit one request.

        Raises:
            ServingError: RESOURCE_EXHAUSTED when the house is full.
        """
        with self._lock:
            if self._requests >= self._max_requests:
                raise ServingError(
                    "RESOURCE_EXHAUSTED",
                    f"Server is overloaded: {self._max_requests} requests are waiting or running",
                )
            self._requests += 1

    def leave(self, held_bytes: int) -> None:
        """Give back one request and the bytes it took."""
        with self._lock:
            self._requests -= 1
            self._bytes -= held_bytes

    def take_bytes(self, count: int) -> None:
        """Account for more body bytes of a request already admitted.

        Raises:
            ServingError: RESOURCE_EXHAUSTED; the bytes are then not counted.
        """
        with self._lock:
            if self._bytes + count > self._max_bytes:
                raise ServingError(
                    "RESOURCE_EXHAUSTED",
                    f"Server is overloaded: {self._max_bytes} bytes of requests are in memory",
                )
            self._bytes += count

    @contextlib.contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Admit one request whose bytes are all here, for as long as it is being answered.

        Raises:
            ServingError: RESOURCE_EXHAUSTED.
        """
        self.enter()
        held = 0
        try:
            self.take_bytes(count)
            held = count
            yield
        finally:
            self.leave(held)

    @property
    def in_flight(self) -> int:
        with self._lock:
            return self._requests


class Runner:
    """A bounded pool of threads for decoding, running and encoding requests.

    Args:
        threads: worker threads.
        batching: whether servables may have batching queues.
    """

    def __init__(self, threads: int, batching: bool = False):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="serve")
        self._batching = batching

    async def answer(self, planner: Planner, size: int, deadline: float | None) -> bytes:
        """The response body of one request.

        Without batching everything happens in one visit to a worker thread. With batching small
        requests are decoded in the event loop, so that no thread sits waiting for a batch.

        Args:
            planner: decodes the request; the servable it returns has been acquired.
            size: bytes of the request.
            deadline: `time.monotonic()` second after which nobody waits for the answer.

        Raises:
            ServingError: also DEADLINE_EXCEEDED.
            tf.errors.OpError: from the graph.
        """
        if not self._batching:
            return await self.call(functools.partial(_run_alone, planner), deadline)
        in_loop = size <= _LOOP_BODY_LIMIT
        servable, work = planner() if in_loop else await self._plan(planner, deadline)
        try:
            outputs = await self._outputs(servable, work, deadline)
            if in_loop:
                return work.finish(outputs)
            return await self.call(functools.partial(work.finish, outputs), deadline)
        finally:
            servable.release()

    async def _plan(self, planner: Planner, deadline: float | None) -> tuple[Servable, Work]:
        job = self._pool.submit(planner)
        try:
            return await wait(job, deadline)
        except BaseException:
            job.add_done_callback(_release_planned)  # nobody else will
            raise

    async def _outputs(
        self, servable: Servable, work: Work, deadline: float | None
    ) -> list[np.ndarray]:
        if servable.batcher is not None:
            job = servable.batcher.submit(work, deadline)
            try:
                return await wait(job, deadline)
            except ServingError as error:
                raise (late_in_queue() if job.cancelled() else error) from error
        # The run may outlive the one who asked for it, so it holds the servable itself.
        servable.acquire()
        run = functools.partial(servable.run, work)
        job = self._pool.submit(_unless_late, run, deadline)
        job.add_done_callback(lambda _: servable.release())
        return await wait(job, deadline)

    async def call(self, function: Callable[[], T], deadline: float | None) -> T:
        """Run a blocking function in the pool, unless its deadline passes first."""
        job = self._pool.submit(_unless_late, function, deadline)
        return await wait(job, deadline)

    def close(self) -> None:
        """Drop what has not begun; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _run_alone(planner: Planner) -> bytes:
    servable, work = planner()
    try:
        return work.finish(servable.run(work))
    finally:
        servable.release()


def _release_planned(job: "Future[tuple[Servable, Work]]") -> None:
    if not job.cancelled() and job.exception() is None:
        job.result()[0].release()


def _unless_late(function: Callable[[], T], deadline: float | None) -> T:
    if deadline is not None and time.monotonic() >= deadline:
        raise _late()
    return function()


def _late() -> ServingError:
    return ServingError("DEADLINE_EXCEEDED", "Timed out waiting for the request to run")


async def wait(job: "Future[T]", deadline: float | None) -> T:
    """Result of a job of another thread.

    Raises:
        ServingError: DEADLINE_EXCEEDED when the deadline passes first.
    """
    waiting = asyncio.wrap_future(job)
    if deadline is None:
        return await waiting
    try:
        return await asyncio.wait_for(waiting, max(0.0, deadline - time.monotonic()))
    except asyncio.TimeoutError as error:  # noqa: UP041 - another class before Python 3.11
        raise _late() from error
