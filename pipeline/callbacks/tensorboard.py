"""Scalars for TensorBoard, written by TensorFlow's own event writer.

Keras's callback needs the `tensorboard` package, a viewer that training itself has no use for.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


class TensorBoardScalars(keras.callbacks.Callback):
    """Logs every number of an epoch under `train/` or `validation/`, by epoch.

    Raises OSError where TensorFlow cannot write (a full disk, say).
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        with self._os_errors():
            self._writer = tf.summary.create_file_writer(str(directory))
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        with self._os_errors(), self._writer.as_default():
            for name, value in logs.items():
                tag = f"validation/{name[4:]}" if name.startswith("val_") else f"train/{name}"
                number = tf.constant(value, tf.float32)
                tf.summary.write(tag, number, step=epoch + 1, metadata=self._metadata)
            self._writer.flush()

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            # Before the cause stands the name of TensorFlow's function, in double braces.
            raise OSError(f"{self._directory}: {error.message.split('}} ')[-1]}") from error
