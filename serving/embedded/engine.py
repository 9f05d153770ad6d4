"""One loaded SavedModel: a TF1-style session that runs feed names to fetch names."""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.embedded.errors import ServingError, from_exception
from serving.embedded.signatures import Signature, read_signatures

_MAX_CALLABLES = 64
_DEFAULT_TAGS = ("serve",)


class _HideLoaderDeprecation(logging.Filter):
    """Drops the one line telling to use a loader that is not the one real servers use."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "saved_model.loader_impl" not in record.getMessage()


logging.getLogger("tensorflow").addFilter(_HideLoaderDeprecation())


class SavedModel:
    """A SavedModel in a session of its own, loaded and run the way TensorFlow Serving does.

    Shapes are not checked against the signature, only the graph can reject them. Runs may come
    from any number of threads; they release the interpreter lock while the graph computes.

    Args:
        path: version directory holding `saved_model.pb` or `saved_model.pbtxt`.
        tags: meta-graph tags.
        session_config: session options, or None for TensorFlow's defaults and one thread a core
            across ops.

    Raises:
        ServingError: with the code and text of the load failure.
    """

    def __init__(
        self,
        path: Path,
        tags: Sequence[str] = _DEFAULT_TAGS,
        session_config: config_pb2.ConfigProto | None = None,
    ):
        self.path = path
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._callables: OrderedDict[tuple, object] = OrderedDict()
        if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
            raise ServingError(
                "NOT_FOUND",
                "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
                f"{path}",
            )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=_with_defaults(session_config))
        try:
            with graph.as_default():
                self.meta_graph: meta_graph_pb2.MetaGraphDef = tf.compat.v1.saved_model.loader.load(
                    self._session, list(tags), str(path)
                )
            self.signatures: dict[str, Signature] = read_signatures(self.meta_graph)
        except Exception as error:
            self._session.close()
            raise _load_error(error, path) from error

    def run(
        self, feed_names: Sequence[str], feeds: Sequence[np.ndarray], fetch_names: Sequence[str]
    ) -> list[np.ndarray]:
        """Outputs in the order of `fetch_names`; repeated fetches share one array.

        Raises:
            tf.errors.OpError: whatever the graph raised, message as a C++ server would send it.
        """
        return self._callable(tuple(feed_names), tuple(fetch_names))(*feeds)

    def close(self) -> None:
        """Free the session and everything it holds. Runs in flight must have ended."""
        self._callables.clear()
        self._session.close()

    def runs_made(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Feed and fetch names of every run that is compiled, least recently used first."""
        with self._lock:
            return list(self._callables)

    def make_run(self, feed_names: tuple[str, ...], fetch_names: tuple[str, ...]) -> None:
        """Compile a run before somebody waits for it.

        Raises:
            tf.errors.OpError: the graph has no such tensors.
        """
        self._callable(feed_names, fetch_names)

    def _callable(self, feed_names: tuple[str, ...], fetch_names: tuple[str, ...]) -> object:
        key = (feed_names, fetch_names)
        with self._lock:
            found = self._callables.get(key)
            if found is not None:
                self._callables.move_to_end(key)
                return found
        # One at a time: TensorFlow optimises the graph here, and requests that come together
        # would otherwise each do the same seconds of work.
        with self._making:
            with self._lock:
                found = self._callables.get(key)
            return found or self._make_callable(key)

    def _make_callable(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> object:
        # A session callable skips Session.run's client-side shape check, which the C++ server
        # does not have, and costs a third of its time.
        options = config_pb2.CallableOptions(feed=key[0], fetch=key[1])
        made = self._session._make_callable_from_options(options)
        with self._lock:
            self._callables[key] = made
            if len(self._callables) > _MAX_CALLABLES:
                self._callables.popitem(last=False)
        return made


def _with_defaults(given: config_pb2.ConfigProto | None) -> config_pb2.ConfigProto:
    """The session options, with one thread a core across ops where nothing else is asked for.

    A single core has nothing to hand an op to, so there the calling thread runs them all (-1).
    """
    config = config_pb2.ConfigProto()
    if given is not None:
        config.CopyFrom(given)
    if config.inter_op_parallelism_threads == 0:
        cores = os.cpu_count() or 1
        config.inter_op_parallelism_threads = cores if cores > 1 else -1
    return config


def _load_error(error: Exception, path: Path) -> ServingError:
    if isinstance(error, ServingError | tf.errors.OpError):
        return from_exception(error)
    text = " ".join(str(error).split())
    code = "NOT_FOUND" if isinstance(error, OSError | RuntimeError) else "INVALID_ARGUMENT"
    return ServingError(code, f"Could not load SavedModel at {path}: {text}")
