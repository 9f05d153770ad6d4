"""A small prepared dataset made in memory, with a planted interaction for models to find."""

import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from pipeline.config import RunConfig, parse_config
from pipeline.rundir import Run
from pipeline.train import Trainer, TrainResult

SIZES = (40, 30, 5)


class MemoryPrepared:
    """Answers as `preprocessing.prepared.PreparedDataset` does, without files."""

    def __init__(self, seed: int = 0, rows: int = 1200, path: str = "memory") -> None:
        rng = np.random.default_rng(seed)
        starts = np.cumsum([3, *SIZES])
        local = np.stack([rng.integers(0, size, 2 * rows) for size in SIZES], axis=1)
        ids = (local + starts[:-1]).astype(np.int64)
        taste = rng.normal(size=(SIZES[0], 3)), rng.normal(size=(SIZES[1], 3))
        logit = 2.0 * (taste[0][local[:, 0]] * taste[1][local[:, 1]]).sum(axis=1) - 0.5
        label = (rng.random(2 * rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        group = np.array([b"user%d" % user for user in local[:, 0]], object)
        values = np.ones(ids.shape, np.float32)
        bounds = {"train": (0, rows), "validation": (rows, 3 * rows // 2)}
        bounds["test"] = (3 * rows // 2, 2 * rows)
        self.path = Path(path)
        self._splits = {
            name: {
                "ids": ids[a:b],
                "values": values[a:b],
                "label": label[a:b],
                "group": group[a:b],
            }
            for name, (a, b) in bounds.items()
        }
        self._tokens = [f"f{f}" for f in range(3)] + [
            f"f{f}={value}" for f, size in enumerate(SIZES) for value in range(size)
        ]
        self.manifest: dict[str, Any] = {
            "name": "memory",
            "spec": {"name": "memory"},
            "num_features": int(starts[-1]),
            "num_positions": len(SIZES),
            "fields": [
                {"name": f"f{f}", "start": f, "stop": f + 1, "kind": "categorical"}
                for f in range(len(SIZES))
            ],
            "splits": {
                name: {
                    "rows": len(part["label"]),
                    "positives": int(part["label"].sum()),
                    "files": [name],
                }
                for name, part in self._splits.items()
            },
            "content_hash": hashlib.sha256(ids.tobytes() + label.tobytes()).hexdigest(),
        }

    @property
    def fields(self) -> list[dict[str, Any]]:
        return self.manifest["fields"]

    def tokens(self) -> list[str]:
        return self._tokens

    def arrays(self, split: str) -> dict[str, np.ndarray]:
        return self._splits[split]

    def dataset(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        repeat: bool = False,
        drop_remainder: bool = False,
        groups: bool = False,
    ) -> tf.data.Dataset:
        part = self._splits[split]
        names = ("ids", "values", "group") if groups else ("ids", "values")
        data = tf.data.Dataset.from_tensor_slices(
            ({name: part[name] for name in names}, part["label"])
        )
        if shuffle:
            data = data.shuffle(300, seed=seed, reshuffle_each_iteration=False)
        data = data.batch(batch_size, drop_remainder=drop_remainder)
        return data.repeat() if repeat else data


def run_config(output: Path, **sections: Any) -> RunConfig:
    """A tiny FM run in `output`; `sections` are merged over its sections."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "seed": 5,
        "output": str(output),
        "data": {"spec": "memory"},
        "model": {"name": "fm", "embedding_dim": 4, "dropout": 0.1},
        "optimizer": {"name": "adam", "learning_rate": 0.05},
        # XLA takes longer to compile such a model than to train it; some tests ask for it.
        "training": {"epochs": 3, "batch_size": 128, "tensorboard": False, "jit_compile": False},
    }
    for name, value in sections.items():
        merge = isinstance(value, dict) and isinstance(tree.get(name), dict)
        tree[name] = {**tree[name], **value} if merge else value
    return parse_config(tree, "test")


def train(
    output: Path, prepared: MemoryPrepared | None = None, resume: bool = False, **sections: Any
) -> TrainResult:
    """That run, trained without a word."""
    config = run_config(output, **sections)
    console = Console(quiet=True)
    return Trainer(config, prepared or MemoryPrepared(), console).train(resume=resume)


def weights(run_directory: Path) -> list[np.ndarray]:
    """The weights of a run's saved model."""
    model = Run.load(run_directory).load_model()
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def assert_bit_equal(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    """Two lists of weights."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
