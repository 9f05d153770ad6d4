"""Threads that take batches from many queues: closed ones at once, open ones when time is up."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from serving.embedded.errors import ServingError


@dataclass
class Task:
    """A request, or a piece of one, in a batch.

    Attributes:
        feeds: its arrays.
        rows: their size on axis 0.
        deadline: `time.monotonic()` second, or None.
        future: gets the list of outputs.
        queued_at: when it entered the queue.
    """

    feeds: list[Any]
    rows: int
    deadline: float | None
    future: "Future[list]" = field(default_factory=Future)
    queued_at: float = field(default_factory=time.monotonic)


@dataclass
class Batch:
    """Tasks that run together."""

    tasks: list[Task] = field(default_factory=list)
    rows: int = 0
    opened_at: float = field(default_factory=time.monotonic)


class BatchQueue:
    """Waiting batches of one (model version, inputs, outputs).

    Args:
        scheduler: whose threads run the batches.
        process: runs a batch; must settle every future of it.
        max_rows: rows of a batch.
        timeout: seconds an open batch waits for company.
        max_batches: batches waiting at a time.
    """

    def __init__(
        self,
        scheduler: "BatchScheduler",
        process: Callable[[Batch], None],
        *,
        max_rows: int,
        timeout: float,
        max_batches: int,
    ):
        self._scheduler = scheduler
        self.process = process
        self._max_rows = max_rows
        self._timeout = timeout
        self._max_batches = max_batches
        self._batches: deque[Batch] = deque()
        self.running = 0

    def add(self, tasks: list[Task]) -> None:
        """Queue all the tasks (pieces of one request) or none of them.

        Raises:
            ServingError: UNAVAILABLE when the queue is full.
        """
        with self._scheduler.condition:
            batches = list(self._batches)
            opened: list[Batch] = []
            placed: list[tuple[Batch, Task]] = []
            sizes = {id(batch): batch.rows for batch in batches[-1:]}
            for task in tasks:
                last = (batches + opened)[-1:]
                if not last or sizes[id(last[0])] + task.rows > self._max_rows:
                    opened.append(Batch())
                    last = opened[-1:]
                    sizes[id(last[0])] = 0
                sizes[id(last[0])] += task.rows
                placed.append((last[0], task))
            if len(batches) + len(opened) > self._max_batches:
                raise ServingError(
                    "UNAVAILABLE",
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {len(batches)} batches enqueued and max_enqueued_batches is "
                    f"{self._max_batches}",
                )
            for batch, task in placed:
                batch.tasks.append(task)
                batch.rows += task.rows
            self._batches.extend(opened)
            self._scheduler.condition.notify()

    def take_ready(self, now: float) -> tuple[Batch | None, float | None]:
        """A batch to run, or when the next one will be ready. Needs the scheduler's lock."""
        if not self._batches:
            return None, None
        first = self._batches[0]
        # Only the last batch is open; any before it is closed.
        closed = len(self._batches) > 1 or first.rows >= self._max_rows
        due = first.opened_at + self._timeout
        if closed or due <= now:
            self.running += 1
            return self._batches.popleft(), None
        return None, due

    def drop_waiting(self) -> list[Task]:
        """Empty the queue. Needs the scheduler's lock."""
        tasks = [task for batch in self._batches for task in batch.tasks]
        self._batches.clear()
        return tasks


class BatchScheduler:
    """The threads that all batch queues of a server share, served in turn.

    Args:
        threads: how many batches run at a time.
        name: thread name prefix.
    """

    def __init__(self, threads: int, name: str):
        lock = threading.Lock()
        self.condition = threading.Condition(lock)
        # A second condition on the same lock, so that a new task never wakes only someone who
        # waits for a queue to drain.
        self._drained = threading.Condition(lock)
        self._queues: deque[BatchQueue] = deque()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def register(self, queue: BatchQueue) -> None:
        with self.condition:
            self._queues.append(queue)

    def retire(self, queue: BatchQueue) -> None:
        """Stop serving a queue: what waits is cancelled, what runs is waited for."""
        with self.condition:
            self._queues.remove(queue)
            waiting = queue.drop_waiting()
            self._drained.wait_for(lambda: not queue.running)
        for task in waiting:
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(
                    ServingError("CANCELLED", "The model was unloaded before the task ran")
                )

    def close(self) -> None:
        """End the threads. Queues must have been retired."""
        with self.condition:
            self._closed = True
            self.condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self.condition:
                queue, batch = self._wait_for_batch()
            if batch is None:
                return
            queue.process(batch)
            del batch
            with self.condition:
                queue.running -= 1
                if not queue.running:
                    self._drained.notify_all()

    def _wait_for_batch(self) -> tuple[BatchQueue | None, Batch | None]:
        while not self._closed:
            now, next_due = time.monotonic(), None
            for _ in range(len(self._queues)):
                queue = self._queues[0]
                self._queues.rotate(-1)
                batch, due = queue.take_ready(now)
                if batch is not None:
                    return queue, batch
                if due is not None:
                    next_due = due if next_due is None else min(next_due, due)
            self.condition.wait(None if next_due is None else max(0.0, next_due - now))
        return None, None
