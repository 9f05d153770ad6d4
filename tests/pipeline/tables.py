"""Small tables and records for the tests of `reproduce`."""

from pathlib import Path

import yaml

from pipeline.experiments.definition import Experiment

BASE = {
    "data": {"spec": "memory"},
    "model": {"embedding_dim": 4},
    "optimizer": {"learning_rate": 0.05},
    # XLA takes longer to compile such a model than to train it.
    "training": {"epochs": 2, "batch_size": 128, "tensorboard": False, "jit_compile": False},
}
LR = {"run": {"model": {"name": "lr", "embedding_dim": None}}, "published": {"auc": 0.7}}
FM = {"run": {"model": {"name": "fm"}}, "published": {"auc": 0.8}, "published_parameters": "390"}


def write_table(folder: Path, files: dict, **changes) -> Experiment:
    tree = {
        "title": "Tiny",
        "published_in": "a paper",
        "budget": "none",
        "metrics": ["auc"],
        "select": "auc",
        "seeds": [1, 2],
        "rows": list(files),
        "base": BASE,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    for name, row in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(row), encoding="utf-8")
    return Experiment(folder)


def record(row: str, auc: float, seed: int = 1, **changed) -> dict:
    return {
        "row": row,
        "variant": "",
        "seed": seed,
        "validation": {"auc": auc},
        "test": {"auc": auc},
        "parameters": 1234,
        "epochs": 5,
        "best_epoch": 3,
        "seconds": 20.0,
        "cpu_seconds": 10.4,
        "machine": "a machine, 2 cores",
        "versions": {"tensorflow": "2", "keras": "3"},
        "data": {"name": "memory", "content_hash": "abcdef0123456789ff"},
        "fingerprint": "",
        **changed,
    }
