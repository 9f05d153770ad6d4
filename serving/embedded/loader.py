"""Makes a servable of a version directory: load, batching queues, warm-up."""

import contextlib
import logging
import os
import weakref
from pathlib import Path

import tensorflow as tf

from serving.embedded import warmup
from serving.embedded.batch_queue import BatchScheduler
from serving.embedded.batching import ServableBatcher
from serving.embedded.engine import SavedModel
from serving.embedded.metrics import Metrics
from serving.embedded.options import ServerOptions
from serving.embedded.servable import BatchRunner, Servable
from serving.server_config import BatchingParameters, read_batching_parameters

PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"
logger = logging.getLogger(__name__)


class ServableLoader:
    """Loads versions; one object serves all models of a server.

    Args:
        options: the server's settings.
        metrics: run times and warm-up counts go here.
    """

    def __init__(self, options: ServerOptions, metrics: Metrics):
        self._options = options
        self._metrics = metrics
        self._last: dict[str, weakref.ref[SavedModel]] = {}
        self._scheduler: BatchScheduler | None = None
        if options.batches:
            parameters = options.batching or BatchingParameters()
            threads = parameters.num_batch_threads or os.cpu_count() or 1
            self._scheduler = BatchScheduler(threads, parameters.thread_pool_name)

    def load(self, name: str, version: int, path: Path) -> Servable:
        """A servable that is ready to answer.

        Raises:
            ServingError: why the version cannot be served; nothing is left behind.
        """
        model = SavedModel(path, self._options.tags, self._options.session)
        servable = Servable(name, version, model, on_run=self._observe)
        try:
            servable.batcher = self._batcher(servable)
            if self._options.warmup:
                count = warmup.replay(servable, self._options.warmup_iterations, self._metrics)
                logger.info("Replayed %d warm-up records of {%s %d}", count, name, version)
            self._compile_like_last(name, model)
        except Exception:
            servable.close()
            raise
        self._last[name] = weakref.ref(model)
        return servable

    def _compile_like_last(self, name: str, model: SavedModel) -> None:
        """Compile the runs that the last version of the model has compiled.

        So the first requests after a swap find them ready, whatever outputs they ask for and
        whether there are warm-up records or not.
        """
        last = self._last.get(name, lambda: None)()
        for feed_names, fetch_names in last.runs_made() if last else []:
            # A version with other tensors will compile its own when asked.
            with contextlib.suppress(tf.errors.OpError):
                model.make_run(feed_names, fetch_names)

    def _observe(self, model: str, api: str, seconds: float) -> None:
        self._metrics.runtime_latency.observe(model, api, "TF1", amount=seconds * 1e6)

    def _batcher(self, servable: Servable) -> BatchRunner | None:
        parameters = self._options.batching
        if self._options.per_model_batching:
            own = servable.model.path / PER_MODEL_BATCHING_FILE
            parameters = read_batching_parameters(own) if own.is_file() else None
        if parameters is None:
            return None
        return ServableBatcher(servable, self._scheduler, parameters, self._metrics)

    def close(self) -> None:
        """End the batching threads. Everything must have been unloaded."""
        if self._scheduler is not None:
            self._scheduler.close()
