"""The prepared dataset: the one place that knows how its files are read.

A prepared dataset is a folder with manifest.json, gzip TFRecords of packed tf.Examples for each
split, the TFT graph, the vocabulary, raw rows of some splits in Parquet, and the rejected rows. B
is the batch, P the number of positions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from preprocessing.errors import PrepareError
from preprocessing.filesystem import DataPath, cache_folder, local_copy, path_of, read_table
from preprocessing.publish import FILES_IN
from preprocessing.shuffled_batches import shuffled_batches

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_READ_BUFFER = 8 << 20
_FILES_AT_ONCE = 8
# Rows taken from a file before the next one's turn, and handed over together.
_BLOCK_ROWS = 64


class RawTransform(tf.Module):
    """The saved TFT graph as a callable that a SavedModel can carry (tables and assets tracked).

    `{served column: (B,) tensor}` -> `{"ids": int64 (B, P), "values": float32 (B, P)}`.
    """

    def __init__(self, folder: Path, columns: list[dict[str, str]], num_positions: int) -> None:
        super().__init__(name="raw_transform")
        self._loaded = tf.saved_model.load(str(folder))
        self._columns = tuple((c["name"], c["dtype"]) for c in columns)
        self._num_positions = num_positions

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Raises ValueError naming a column that `inputs` lacks."""
        given = {}
        for name, dtype in self._columns:
            if name not in inputs:
                raise ValueError(f"raw column '{name}' is missing; got {', '.join(sorted(inputs))}")
            given[name] = tf.convert_to_tensor(inputs[name], getattr(tf, dtype))
        found = self._loaded.transform_fn(given)
        shape = [None, self._num_positions]
        return {name: tf.ensure_shape(found[name], shape) for name in ("ids", "values")}


def _copies() -> Path:
    return cache_folder() / "remote"


class PreparedDataset:
    """A prepared dataset: `path` is the folder of its files."""

    def __init__(self, path: DataPath, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def load(cls, path: str | DataPath) -> PreparedDataset:
        """Opens a folder. Raises FileNotFoundError, or PrepareError for an unknown format."""
        path = path_of(path)
        file = path / MANIFEST
        if not file.is_file():
            raise FileNotFoundError(f"{path}: no prepared dataset here (no {MANIFEST})")
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest.get("format_version") != FORMAT_VERSION:
            raise PrepareError(
                f"{file}: format_version {manifest.get('format_version')}, expected"
                f" {FORMAT_VERSION}: prepare the dataset again"
            )
        return cls(path / manifest.pop(FILES_IN, ""), manifest)

    @property
    def fields(self) -> list[dict[str, Any]]:
        """Name, kind, positions and ids of each field, in order."""
        return self.manifest["fields"]

    def rows(self, split: str) -> int:
        """Rows of a split. Raises PrepareError for an unknown split."""
        return self._split(split)["rows"]

    def dataset(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        buffer_rows: int = 1 << 18,
        groups: bool = False,
        part: tuple[int, int] | None = None,
        rows: int | None = None,
    ) -> tf.data.Dataset:
        """Batches ({"ids" (B, P), "values" (B, P)}, label (B,)[, weight (B,)]), read from disk.

        Shuffling takes files in a new order each epoch, interleaves them and mixes `buffer_rows`
        rows at a time; records are batched before they are parsed. With `groups` the group key
        (bytes) is in the inputs under "group".

        `part` (i, n) is what the i-th of n workers reads: every n-th file of the epoch's order. It
        gives as many whole batches as `rows` holds, if given, and starts again where the files
        hold fewer.
        """
        files = self._files(split)
        data = tf.data.Dataset.from_tensor_slices(files)
        if shuffle:
            data = data.shuffle(len(files), seed=seed, reshuffle_each_iteration=True)
        if part:
            data = data.shard(part[1], part[0])
        if shuffle:
            at_once = min(len(files), _FILES_AT_ONCE)
            parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
            data = data.interleave(self._blocks, at_once, **parallel)
        else:
            data = data.flat_map(self._blocks)
        if rows is not None:
            data = data.repeat().rebatch(batch_size).take(rows // batch_size)
        parse = self._parser(groups)
        if shuffle:
            window = min(buffer_rows, self.rows(split))
            data = shuffled_batches(data, window, batch_size, seed, drop_remainder, parse)
        else:
            data = data.rebatch(batch_size, drop_remainder)
            data = data.map(parse, tf.data.AUTOTUNE, deterministic=True)
        return data.prefetch(tf.data.AUTOTUNE)

    def arrays(self, split: str) -> dict[str, np.ndarray]:
        """A whole split in memory: ids, values (N, P), label (N,)[, weight (N,), group (N,)]."""
        found: dict[str, list[np.ndarray]] = {}
        has_group = bool(self.manifest["spec"].get("group"))
        for inputs, label, *weight in self.dataset(split, 1 << 15, groups=has_group):
            parts = {**inputs, "label": label, **({"weight": weight[0]} if weight else {})}
            for name, part in parts.items():
                found.setdefault(name, []).append(part.numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def raw(self, split: str) -> pa.Table:
        """Raw served columns and label of a split kept by `keep_raw`, in the TFRecords' order.

        Raises PrepareError if the split was not kept.
        """
        self._split(split)
        files = sorted((self.path / "raw").glob(f"{split}-*.parquet"))
        if not files:
            kept = ", ".join(self.manifest["spec"]["keep_raw"]) or "none"
            raise PrepareError(f"{self.path}: no raw rows of '{split}' (keep_raw: {kept})")
        return pa.concat_tables([read_table(f) for f in files])

    def transform(self) -> RawTransform:
        """The graph that serves: raw columns -> ids and values."""
        folder = local_copy(self.path / "transform_fn", _copies())
        return RawTransform(folder, self.manifest["columns"], self.manifest["num_positions"])

    def tokens(self) -> list[str]:
        """The token of every id: `field` (special), `field#b`, `field~b`, `field=value`."""
        text = (self.path / "vocabulary.txt").read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n")

    def vocabulary(self) -> pa.Table:
        """Columns id, field (index), value, count (in training) of the shared vocabulary."""
        return read_table(self.path / "vocabulary.parquet")

    def _split(self, split: str) -> dict[str, Any]:
        splits = self.manifest["splits"]
        if split not in splits:
            raise PrepareError(f"{self.path}: no split '{split}'; one of {', '.join(splits)}")
        return splits[split]

    def _files(self, split: str) -> list[str]:
        files = [str(self.path / name) for name in self._split(split)["files"]]
        if not files:
            raise PrepareError(f"{self.path}: split '{split}' has no rows")
        return files

    def _blocks(self, file: tf.Tensor) -> tf.data.Dataset:
        """A file's records, (_BLOCK_ROWS,) and what is left."""
        return tf.data.TFRecordDataset(self._local(file), "GZIP", _READ_BUFFER).batch(_BLOCK_ROWS)

    def _local(self, file: tf.Tensor) -> tf.Tensor:
        """The file's name on this machine; one from elsewhere is copied when it is first read."""
        if isinstance(self.path, Path):
            return file

        def fetch(name: tf.Tensor) -> str:
            return str(local_copy(path_of(name.numpy().decode()), _copies()))

        return tf.py_function(fetch, [file], tf.string)

    def _parser(self, groups: bool) -> Any:
        positions, spec = self.manifest["num_positions"], self.manifest["spec"]
        features = {
            "ids": tf.io.FixedLenFeature([positions], tf.int64),
            "values": tf.io.FixedLenFeature([positions], tf.float32),
            "label": tf.io.FixedLenFeature([], tf.float32),
        }
        if spec.get("weight"):
            features["weight"] = tf.io.FixedLenFeature([], tf.float32)
        if groups and spec.get("group"):
            features["group"] = tf.io.FixedLenFeature([], tf.string)

        def parse(records: tf.Tensor) -> tuple[Any, ...]:
            found = tf.io.parse_example(records, features)
            inputs = {name: found[name] for name in ("ids", "values", "group") if name in found}
            return (inputs, found["label"], *([found["weight"]] if "weight" in found else []))

        return parse
