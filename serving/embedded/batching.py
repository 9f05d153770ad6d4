"""Server-side batching of one loaded version, with TensorFlow Serving's rules and errors."""

import threading
import time
from concurrent.futures import Future
from itertools import pairwise

import numpy as np

from serving.embedded import batch_tensors
from serving.embedded.batch_queue import Batch, BatchQueue, BatchScheduler, Task
from serving.embedded.errors import ServingError, from_exception, invalid_argument
from serving.embedded.metrics import Metrics
from serving.embedded.servable import Servable, Work
from serving.server_config import BatchingParameters

_MAX_QUEUES = 256


class ServableBatcher:
    """Batching queues of one version: one per set of input and output tensors.

    Args:
        servable: whose model runs the batches.
        scheduler: the threads, shared by all models.
        parameters: sizes and times.
        metrics: sizes and waiting times go here.

    Raises:
        ServingError: INVALID_ARGUMENT for allowed batch sizes that cannot be.
    """

    def __init__(
        self,
        servable: Servable,
        scheduler: BatchScheduler,
        parameters: BatchingParameters,
        metrics: Metrics,
    ):
        check_allowed_sizes(parameters)
        self._servable = servable
        self._scheduler = scheduler
        self._parameters = parameters
        self._metrics = metrics
        self._queues: dict[tuple, BatchQueue] = {}
        self._lock = threading.Lock()

    def submit(self, work: Work, deadline: float | None) -> "Future[list[np.ndarray]]":
        """Queue the work; the future carries its outputs or the error of its batch.

        Raises:
            ServingError: INVALID_ARGUMENT for inputs that cannot be batched, UNAVAILABLE for a
                full queue.
        """
        rows = batch_tensors.count_rows(work.feeds)
        self._metrics.input_batch_size.observe(self._parameters.thread_pool_name, amount=rows)
        self._metrics.wrapped_run_count.add()
        limit = self._parameters.execution_limit
        if rows > self._parameters.max_batch_size or rows > limit:
            if not self._parameters.enable_large_batch_splitting:
                raise invalid_argument(
                    f"Task size {rows} is larger than maximum input batch size "
                    f"{self._parameters.max_batch_size}"
                )
            return self._submit_pieces(work, rows, limit, deadline)
        task = Task(list(work.feeds), rows, deadline)
        self._queue(work).add([task])
        return task.future

    def _submit_pieces(
        self, work: Work, rows: int, limit: int, deadline: float | None
    ) -> "Future[list[np.ndarray]]":
        starts = range(0, rows, limit)
        tasks = [
            Task([feed[at : at + limit] for feed in work.feeds], min(limit, rows - at), deadline)
            for at in starts
        ]
        self._queue(work).add(tasks)
        return _gather([task.future for task in tasks])

    def _queue(self, work: Work) -> BatchQueue:
        key = (work.feed_names, work.fetch_names)
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                if len(self._queues) >= _MAX_QUEUES:
                    raise ServingError(
                        "RESOURCE_EXHAUSTED",
                        f"More than {_MAX_QUEUES} sets of outputs are asked for with batching on",
                    )
                queue = self._make_queue(work)
                self._queues[key] = queue
            return queue

    def _make_queue(self, work: Work) -> BatchQueue:
        def process(batch: Batch) -> None:
            self._process(batch, work.api, work.feed_names, work.fetch_names)

        queue = BatchQueue(
            self._scheduler,
            process,
            max_rows=self._parameters.execution_limit,
            timeout=self._parameters.batch_timeout_micros / 1e6,
            max_batches=self._parameters.max_enqueued_batches,
        )
        self._scheduler.register(queue)
        return queue

    def _process(
        self, batch: Batch, api: str, feed_names: tuple[str, ...], fetch_names: tuple[str, ...]
    ) -> None:
        tasks = self._still_wanted(batch)
        if not tasks:
            return
        try:
            results = self._run(tasks, api, feed_names, fetch_names)
        except Exception as error:
            for task in tasks:
                # One exception object per task: each is raised, and changed, in another place.
                failure = from_exception(error)
                task.future.set_exception(ServingError(failure.code, failure.message))
            return
        for task, outputs in zip(tasks, results, strict=True):
            task.future.set_result(outputs)

    def _still_wanted(self, batch: Batch) -> list[Task]:
        now, tasks = time.monotonic(), []
        for task in batch.tasks:
            if not task.future.set_running_or_notify_cancel():
                continue
            if task.deadline is not None and task.deadline < now:
                task.future.set_exception(late())
                continue
            self._metrics.queuing_latency.observe(
                self._parameters.thread_pool_name, amount=(now - task.queued_at) * 1e6
            )
            tasks.append(task)
        return tasks

    def _run(
        self,
        tasks: list[Task],
        api: str,
        feed_names: tuple[str, ...],
        fetch_names: tuple[str, ...],
    ) -> list[list[np.ndarray]]:
        sizes = [task.rows for task in tasks]
        rows = sum(sizes)
        total = batch_tensors.execution_size(rows, self._parameters.allowed_batch_sizes)
        # Repeating a row needs a row: a batch of empty requests stays empty.
        total = total if tasks[-1].rows else rows
        feeds = batch_tensors.join(
            feed_names,
            [task.feeds for task in tasks],
            total - rows,
            self._parameters.pad_variable_length_inputs,
        )
        self._metrics.processed_batch_size.observe(self._parameters.thread_pool_name, amount=total)
        self._metrics.padding_size.observe(str(total), amount=total - rows)
        outputs = self._servable.execute(api, feed_names, feeds, fetch_names)
        return batch_tensors.split(outputs, sizes, total)

    def close(self) -> None:
        """Cancel what waits, wait for what runs."""
        with self._lock:
            queues = list(self._queues.values())
            self._queues.clear()
        for queue in queues:
            self._scheduler.retire(queue)


def check_allowed_sizes(parameters: BatchingParameters) -> None:
    """Refuse allowed batch sizes that are not ascending or do not end at the largest batch.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    allowed = parameters.allowed_batch_sizes
    if not allowed:
        return
    if any(low >= high for low, high in pairwise(allowed)):
        raise invalid_argument(
            "allowed_batch_sizes entries must be monotonically increasing; were "
            f"{', '.join(map(str, allowed))}"
        )
    if allowed[-1] != parameters.execution_limit:
        splitting = parameters.enable_large_batch_splitting
        name = "max_execution_batch_size" if splitting else "max_batch_size"
        raise invalid_argument(
            f"Last entry in allowed_batch_sizes must match {name}; last entry was {allowed[-1]}; "
            f"expected {parameters.execution_limit}"
        )


def late() -> ServingError:
    """The error of a task whose deadline passed before its batch ran."""
    return ServingError(
        "RESOURCE_EXHAUSTED", "Run() timeout exceeded while waiting in batching queue"
    )


def _gather(parts: "list[Future[list[np.ndarray]]]") -> "Future[list[np.ndarray]]":
    """A future of the pieces' outputs put together again; the first error wins."""
    whole: Future[list[np.ndarray]] = Future()
    whole.set_running_or_notify_cancel()
    remaining = [len(parts)]
    lock = threading.Lock()

    def finished(_: "Future[list[np.ndarray]]") -> None:
        with lock:
            remaining[0] -= 1
            if remaining[0]:
                return
        errors = [part.exception() for part in parts if part.exception() is not None]
        if errors:
            whole.set_exception(errors[0])
            return
        results = [part.result() for part in parts]
        whole.set_result([np.concatenate(arrays) for arrays in zip(*results, strict=True)])

    for part in parts:
        part.add_done_callback(finished)
    return whole
