"""Loads a SavedModel the way TensorFlow Serving does: a TF1 session on the tag `serve`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

tf1 = tf.compat.v1


class SavedModelSession:
    """One loaded model. Feeds and fetches are by name, shapes are not checked, as in the server.

    Args:
        directory: of the SavedModel.
        config: session options, such as the numbers of threads; TensorFlow's defaults if None.
    """

    def __init__(self, directory: Path, config: config_pb2.ConfigProto | None = None) -> None:
        self._graph = tf.Graph()
        self._session = tf1.Session(graph=self._graph, config=config)
        with self._graph.as_default():
            meta_graph: meta_graph_pb2.MetaGraphDef = tf1.saved_model.loader.load(
                self._session, ["serve"], str(directory)
            )
        self.signature_defs = dict(meta_graph.signature_def)
        self._callables: dict[tuple, object] = {}

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Answer one request; omitted inputs take the signature's defaults.

        Raises:
            KeyError: no such signature, or an omitted input without a default.
            tf.errors.OpError: the graph refused the inputs.
        """
        definition = self.signature_defs[signature]
        feeds = dict(inputs)
        for alias in definition.inputs:
            if alias not in feeds:
                feeds[alias] = tf.make_ndarray(definition.defaults[alias])
        fetches = sorted(outputs or definition.outputs)
        key = (signature, tuple(feeds), tuple(fetches))
        if key not in self._callables:
            self._callables[key] = self._callable(definition, feeds, fetches)
        return dict(zip(fetches, self._callables[key](*feeds.values()), strict=True))

    def _callable(
        self,
        definition: meta_graph_pb2.SignatureDef,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
    ):
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[alias].name for alias in feeds],
            fetch=[definition.outputs[alias].name for alias in fetches],
        )
        # Session.run would add a check of static shapes that the C++ server does not make.
        return self._session._make_callable_from_options(options)

    def close(self) -> None:
        """Free the session and its resources."""
        self._session.close()

    def __enter__(self) -> "SavedModelSession":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
