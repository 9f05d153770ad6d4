"""The run directory: what a training run leaves behind, and how the other commands read it."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import RunConfig, load_config
from pipeline.errors import PipelineError
from pipeline.files import write_json, write_text
from pipeline.specs import load_spec, prepared_folder
from preprocessing.filesystem import DataPath

if TYPE_CHECKING:
    import keras

    from preprocessing.prepared import PreparedDataset

_STOPPING = "training.early_stopping.metric"
# What a step depends on, each with a dot behind it; the rest says how long a run goes on, what it
# writes and how it is exported.
_STEP_KEYS = (
    "seed.",
    "data.in_memory.",
    "data.memory_limit_mb.",
    "model.",
    "optimizer.",
    "strategy.",
    "training.task.",
    "training.batch_size.",
    "training.shuffle.",
    "training.warmup_steps.",
    "training.reduce_lr.",
    "training.mixed_precision.",
    f"{_STOPPING}.",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """Paths of a run and its resolved configuration."""

    directory: Path
    config: RunConfig

    @classmethod
    def create(cls, config: RunConfig) -> "Run":
        """Make the directory and write the resolved configuration."""
        run = cls(config.run_directory, config)
        run.directory.mkdir(parents=True, exist_ok=True)
        write_text(run.directory / "config.yaml", config.to_yaml())
        return run

    @classmethod
    def load(cls, directory: str | Path) -> "Run":
        """Open an existing run; raises FileNotFoundError with a hint where there is none."""
        directory = Path(directory)
        path = directory / "config.yaml"
        if not path.is_file():
            raise FileNotFoundError(f"{directory}: not a run directory (no config.yaml)")
        return cls(directory, load_config(path))

    @property
    def model_path(self) -> Path:
        """The trained Keras model."""
        return self.directory / "model.keras"

    @property
    def checkpoints(self) -> Path:
        """Directory of the resumable training states."""
        return self.directory / "checkpoints"

    @property
    def plots(self) -> Path:
        """Directory of the PNG plots."""
        return self.directory / "plots"

    def read_json(self, name: str, default: Any = None) -> Any:
        """A JSON file of the run, or `default` where it does not exist."""
        path = self.directory / name
        if not path.is_file():
            return default
        return json.loads(path.read_text(encoding="utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file of the run."""
        write_json(self.directory / name, value)

    def update_metrics(self, **entries: Any) -> dict[str, Any]:
        """Merge entries into metrics.json and return all of it."""
        metrics = self.read_json("metrics.json", {})
        metrics.update(entries)
        self.write_json("metrics.json", metrics)
        return metrics

    def load_model(self) -> "keras.Model":
        """The trained model."""
        import keras

        import models  # noqa: F401  (registers the classes that the file names)

        if not self.model_path.is_file():
            raise FileNotFoundError(
                f"{self.directory}: no trained model; run `python -m pipeline train` first"
            )
        return keras.saving.load_model(self.model_path, compile=False)

    def load_prepared(self, path: "str | DataPath | None" = None) -> "PreparedDataset":
        """The prepared dataset the run was trained on; see `check_prepared`."""
        prepared = load_prepared(path or prepared_path(self.config))
        self.check_prepared(prepared)
        return prepared

    def check_prepared(self, prepared: "PreparedDataset") -> None:
        """Raises PipelineError where the dataset is not the one the run was trained on."""
        trained_on = self.read_json("dataset.json")
        found = prepared.manifest
        if trained_on and trained_on["content_hash"] != found["content_hash"]:
            raise PipelineError(
                f"{prepared.path}: not the dataset that {self.directory} was trained on "
                f"({trained_on['name']}, content {trained_on['content_hash'][:12]}; found "
                f"{found['name']}, {found['content_hash'][:12]}): prepare it again or train again"
            )

    def check_resumable(self, config: RunConfig) -> None:
        """Raises PipelineError where `config` would take other steps than the run has taken."""
        was, now = (_flat(c.model_dump(mode="json")) for c in (self.config, config))
        was[_STOPPING], now[_STOPPING] = self.config.stopping_metric, config.stopping_metric
        for key in sorted({*was, *now}):
            if was.get(key) != now.get(key) and f"{key}.".startswith(_STEP_KEYS):
                raise PipelineError(
                    f"{self.directory}: begun with {key} {was.get(key)!r}, not {now.get(key)!r}: "
                    "a run goes on as it began; train without --resume to begin anew"
                )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        leaves.update(inner or {f"{prefix}{key}": value})
    return leaves


def load_prepared(path: "str | DataPath") -> "PreparedDataset":
    """Open a prepared dataset (imported late: it brings TensorFlow along)."""
    from preprocessing.prepared import PreparedDataset

    return PreparedDataset.load(path)


def check_spec(config: RunConfig, prepared: "PreparedDataset") -> None:
    """Raises PipelineError where the dataset was prepared from another spec than the run names."""
    wanted = load_spec(config.data.spec).resolved()
    found = prepared.manifest["spec"]
    odd = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    if odd:
        raise PipelineError(
            f"{prepared.path}: prepared from another spec than {config.data.spec} "
            f"(differs in {', '.join(odd)}); prepare it again, or set data.prepared"
        )


def prepared_path(config: RunConfig) -> "DataPath":
    """Where the configuration's prepared dataset lives."""
    return config.data.prepared or prepared_folder(config.data.spec)
