"""One device, several logical devices, or several workers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from pipeline.config import StrategyConfig
from pipeline.data import TrainingData
from pipeline.errors import PipelineError


class Strategy:
    """The `tf.distribute` strategy of a run.

    `mirrored` splits the CPU into logical devices (or takes the machine's GPUs); `multi_worker`
    reads the cluster from TF_CONFIG, as TensorFlow does everywhere. Only the chief writes the run
    directory; the workers all read the prepared dataset.
    """

    def __init__(self, config: StrategyConfig) -> None:
        self._strategy: tf.distribute.Strategy | None = None
        if config.name == "mirrored":
            self._strategy = tf.distribute.MirroredStrategy(_logical_devices(config.devices))
        elif config.name == "multi_worker":
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy()

    @property
    def replicas(self) -> int:
        """How many replicas share each batch."""
        return self._strategy.num_replicas_in_sync if self._strategy else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files."""
        if self._strategy is None:
            return True
        resolver = self._strategy.cluster_resolver
        return resolver is None or not resolver.task_id

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Variables made inside are mirrored."""
        with self._strategy.scope() if self._strategy else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def fitting(self, model: keras.Model) -> Iterator[None]:
        """Where `model.fit` is called: in the scope, around two places where Keras 3.15 trips.

        * A model made under a strategy has Keras average one batch over the workers to build
          itself, which fails on a batch that is a dictionary. The model is built already; without
          a strategy of its own it takes the scope's and skips that.
        * Between workers Keras averages a step's logs along axis 0, which a scalar does not have.
        """
        model._distribute_strategy = None
        if isinstance(self._strategy, tf.distribute.MultiWorkerMirroredStrategy):
            step = type(model).train_step

            def train_step(data: Any) -> dict[str, tf.Tensor]:
                logs = step(model, data)
                return {name: tf.reshape(value, [1]) for name, value in logs.items()}

            model.train_step = train_step
        with self.scope():
            yield

    def batches(
        self, data: TrainingData, first_step: int, epochs: int
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """Batches of `data` from `first_step` to the end of epoch `epochs`, over the replicas.

        From disk, and with enough files, each worker reads files of its own (FILE in TensorFlow's
        words). Otherwise each reads everything and takes its part of every global batch (DATA),
        which is then the batch that one worker would see.
        """
        if self._strategy is None:
            return data.dataset(first_step, epochs)
        if data.by_file(self._workers, self.replicas):
            return self._strategy.distribute_datasets_from_function(
                lambda context: data.share(
                    first_step,
                    epochs,
                    (context.input_pipeline_id, context.num_input_pipelines),
                    context.get_per_replica_batch_size(data.batch_size),
                )
            )
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return data.dataset(first_step, epochs).with_options(options)

    @property
    def _workers(self) -> int:
        if not isinstance(self._strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return 1
        tasks = self._strategy.cluster_resolver.cluster_spec().as_dict()
        return len(tasks.get("chief", ())) + len(tasks.get("worker", ()))


def _logical_devices(count: int) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if len(gpus) < count:
            raise PipelineError(
                f"strategy.devices: {count} asked, the machine has {len(gpus)} GPUs"
            )
        return [f"/GPU:{index}" for index in range(count)]
    cpus = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(
            cpus[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise PipelineError(
                "strategy.devices must be set before TensorFlow starts in this process"
            ) from error
    return [f"/CPU:{index}" for index in range(count)]
