"""Training batches with an exact position: step s is the same batch in every process.

In memory the epoch's order is a stateless permutation of (seed, epoch) and every batch one gather
inside tf.data: no Python runs per batch. From disk the prepared dataset shuffles with the seed
seed + epoch. Either way a dataset can begin at any step, which is what exact resume needs.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from pipeline.config import DataConfig
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

# An epoch's files are dealt to the workers; with fewer a worker, shares would be too unequal.
FILES_A_WORKER = 8


class TrainingData:
    """The training split as an endless dataset of batches.

    Args:
        prepared: the prepared dataset.
        batch_size: rows a step.
        seed: of the order.
        data: the configuration's `data` section (memory limits).
        shuffle: whether each epoch has an order of its own.
        signed_labels: labels as -1/+1 instead of 0/1.
        drop_remainder: leave out the last, smaller batch of each epoch.
    """

    def __init__(
        self,
        prepared: "PreparedDataset",
        batch_size: int,
        seed: int,
        data: DataConfig,
        shuffle: bool = True,
        signed_labels: bool = False,
        drop_remainder: bool = False,
    ) -> None:
        self.prepared = prepared
        self.rows = prepared.manifest["splits"]["train"]["rows"]
        if not self.rows:
            raise PipelineError("the training split is empty")
        if drop_remainder and self.rows < batch_size:
            raise PipelineError(
                f"training.batch_size: {batch_size} is more than the {self.rows} training rows"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.signed_labels = signed_labels
        self.drop_remainder = drop_remainder
        self.steps_per_epoch = (
            self.rows // batch_size if drop_remainder else -(-self.rows // batch_size)
        )
        self.in_memory = fits_in_memory(prepared, "train", data)
        self._columns = _columns(prepared.arrays("train")) if self.in_memory else None

    def dataset(self, first_step: int = 0, epochs: int = 1) -> tf.data.Dataset:
        """Batches from `first_step` (counted over all epochs) to the end of epoch `epochs`."""
        epoch, step = divmod(first_step, self.steps_per_epoch)
        dataset = (
            self._from_memory(epoch, step, epochs)
            if self._columns is not None
            else self._from_disk(epoch, step, epochs)
        )
        return self._finished(dataset)

    def inputs(self, rows: int) -> list[dict[str, np.ndarray]]:
        """The inputs of the first epoch's first batches, at least `rows` of them if there are."""
        batches = self.dataset().take(-(-rows // self.batch_size))
        return [inputs for inputs, *_ in batches.as_numpy_iterator()]

    def by_file(self, workers: int, replicas: int) -> bool:
        """Whether workers read files of their own: from disk, and enough of them."""
        if workers < 2 or self.in_memory or self.batch_size % replicas:
            return False
        files = self.prepared.manifest["splits"]["train"]["files"]
        return self.drop_remainder and len(files) >= FILES_A_WORKER * workers

    def share(
        self, first_step: int, epochs: int, worker: tuple[int, int], batch_size: int
    ) -> tf.data.Dataset:
        """What one worker (i, n) reads of `dataset(first_step, epochs)`, by file.

        Its batches are of `batch_size` rows, those of one replica. In each epoch the files, in an
        order of that epoch, are dealt to the workers; each gives as many rows as the others, so
        one with more rows leaves some out, and one with fewer begins again. The next epoch's deal
        is another.
        """
        per_step = self.batch_size // worker[1]
        epoch, step = divmod(first_step, self.steps_per_epoch)
        parts = [
            self.prepared.dataset(
                "train",
                batch_size,
                shuffle=self.shuffle,
                seed=self.seed + number,
                part=worker,
                rows=self.steps_per_epoch * per_step,
            )
            for number in range(epoch, epochs)
        ]
        dataset = _chained(parts, step * (per_step // batch_size))
        return self._finished(dataset)

    def _finished(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        if self.signed_labels:
            dataset = dataset.map(_signed, num_parallel_calls=2, deterministic=True)
        return dataset.prefetch(8)

    def _from_memory(self, epoch: int, step: int, epochs: int) -> tf.data.Dataset:
        columns = {name: tf.constant(values) for name, values in self._columns.items()}
        rows, batch, steps = self.rows, self.batch_size, self.steps_per_epoch

        def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
            order = tf.range(rows)
            if self.shuffle:
                seed = tf.stack([tf.constant(self.seed, tf.int64), number])
                order = tf.random.experimental.stateless_shuffle(order, seed)
            first = tf.where(number == epoch, tf.constant(step, tf.int64), 0)

            def gather(index: tf.Tensor) -> tuple[Any, ...]:
                start = index * batch
                chosen = order[start : tf.minimum(start + batch, rows)]
                return _example({name: tf.gather(v, chosen) for name, v in columns.items()})

            return tf.data.Dataset.range(first, steps).map(
                gather, num_parallel_calls=2, deterministic=True
            )

        return tf.data.Dataset.range(epoch, epochs).flat_map(one_epoch)

    def _from_disk(self, epoch: int, step: int, epochs: int) -> tf.data.Dataset:
        parts = [
            self.prepared.dataset(
                "train",
                self.batch_size,
                shuffle=self.shuffle,
                seed=self.seed + number,
                drop_remainder=self.drop_remainder,
            )
            for number in range(epoch, epochs)
        ]
        return _chained(parts, step)


def _chained(epochs: list[tf.data.Dataset], skipped: int) -> tf.data.Dataset:
    """Epochs one after the other, without the first batches."""
    dataset = epochs[0].skip(skipped) if skipped else epochs[0]
    for epoch in epochs[1:]:
        dataset = dataset.concatenate(epoch)
    return dataset


def fits_in_memory(prepared: "PreparedDataset", split: str, data: DataConfig) -> bool:
    """Whether to hold the split's arrays, as configured or by their size."""
    if data.in_memory != "auto":
        return data.in_memory
    rows = prepared.manifest["splits"][split]["rows"]
    bytes_a_row = 12 * prepared.manifest["num_positions"] + 8
    return rows * bytes_a_row <= data.memory_limit_mb << 20


def _columns(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What training reads, ids in 32 bits: half the memory and faster gathers."""
    kept = {"ids": arrays["ids"].astype(np.int32), "values": arrays["values"]}
    for name in ("label", "weight"):
        if arrays.get(name) is not None:
            kept[name] = np.asarray(arrays[name], np.float32)
    return kept


def _example(columns: dict[str, Any]) -> tuple[Any, ...]:
    inputs = {"ids": columns["ids"], "values": columns["values"]}
    if "weight" in columns:
        return inputs, columns["label"], columns["weight"]
    return inputs, columns["label"]


def _signed(inputs: Any, label: Any, *weight: Any) -> tuple[Any, ...]:
    return (inputs, 2.0 * label - 1.0, *weight)
