"""The run configuration: one YAML file, validated key by key.

Sections are plain pydantic models that refuse unknown keys, so a misspelt key is an error and
never a silently ignored wish. Arguments of a model or an optimizer are checked against the class
they are meant for when it is built, because only the class knows them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from pipeline.errors import PipelineError, nearest
from pipeline.yaml_files import read_mapping, validate
from preprocessing.filesystem import path_of

METRICS = {
    # name -> True where more is better
    "auc": True,
    "pr_auc": True,
    "logloss": False,
    "normalized_entropy": False,
    "calibration_error": False,
    "rmse": False,
    "gauc": True,
    "auc-logloss": True,
}


def _known_metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(f"unknown metric {value!r}{nearest(value, METRICS)}")
    return value


Metric = Annotated[str, pydantic.AfterValidator(_known_metric)]
MetricOrAuto = Annotated[
    str, pydantic.AfterValidator(lambda value: value if value == "auto" else _known_metric(value))
]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", validate_default=True)


# A folder of this machine or, with a scheme as in gs://, of one of Beam's file systems.
_DataPath = Annotated[
    Any,
    pydantic.BeforeValidator(lambda path: None if path is None else path_of(path)),
    pydantic.PlainSerializer(lambda path: None if path is None else str(path)),
]


class DataConfig(_Section):
    """Where the examples come from."""

    spec: str = pydantic.Field(description="preset name or dataset spec file")
    prepared: _DataPath = pydantic.Field(
        None, description="folder of the prepared dataset (default: data/prepared/<spec name>)"
    )
    source: _DataPath = pydantic.Field(None, description="folder of the raw files")
    in_memory: bool | Literal["auto"] = pydantic.Field(
        "auto", description="hold the training split in memory; auto: where it fits"
    )
    memory_limit_mb: int = pydantic.Field(4096, gt=0, description="what `auto` may hold")


class ModelConfig(pydantic.BaseModel):
    """The model's registry name; every further key is an argument of its class."""

    model_config = pydantic.ConfigDict(extra="allow")

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keys beside `name`."""
        return dict(self.model_extra or {})


class OptimizerConfig(pydantic.BaseModel):
    """The optimizer; every further key is an argument of its class."""

    model_config = pydantic.ConfigDict(extra="allow", validate_default=True)

    name: str = pydantic.Field(
        "adam", description="adam, adagrad, sgd, ftrl, adamw, rmsprop, nadam, lion"
    )
    learning_rate: float = pydantic.Field(1e-3, gt=0)
    tables: Literal["auto", "dense", "sparse"] = pydantic.Field(
        "auto", description="update tables whole, only the batch's rows, or decide by size"
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """The keys beside those declared here."""
        return dict(self.model_extra or {})


class EarlyStopping(_Section):
    """Stop when the metric no longer improves, and keep the best weights."""

    metric: MetricOrAuto = pydantic.Field("auto", description="auto: auc, or rmse for a regression")
    patience: int = pydantic.Field(2, ge=1, description="epochs without improvement before the end")
    min_delta: float = pydantic.Field(1e-6, ge=0)


class ReduceLearningRate(_Section):
    """Multiply the learning rate when the metric no longer improves."""

    metric: MetricOrAuto = pydantic.Field("auto", description="auto: auc, or rmse for a regression")
    factor: float = pydantic.Field(0.1, gt=0, lt=1)
    patience: int = pydantic.Field(1, ge=1)
    min_delta: float = pydantic.Field(1e-6, ge=0)
    minimum: float = pydantic.Field(1e-6, ge=0)


class CheckpointConfig(_Section):
    """When the full training state is written."""

    every_steps: int | None = pydantic.Field(None, gt=0, description="besides each epoch's end")
    keep: int = pydantic.Field(2, ge=1, description="newest checkpoints kept")


class TrainingConfig(_Section):
    """How the model is fitted."""

    task: Literal["binary", "regression"] = pydantic.Field(
        "binary", description="regression: labels become -1/+1, squared error, clipped RMSE"
    )
    epochs: int = pydantic.Field(10, ge=1)
    batch_size: int = pydantic.Field(4096, ge=1)
    shuffle: bool = True
    warmup_steps: int = pydantic.Field(0, ge=0, description="steps of linear learning-rate rise")
    early_stopping: EarlyStopping | None = EarlyStopping()
    reduce_lr: ReduceLearningRate | None = None
    checkpoint: CheckpointConfig = CheckpointConfig()
    tensorboard: bool = True
    jit_compile: bool | Literal["auto"] = "auto"
    steps_per_execution: Annotated[int, pydantic.Field(ge=1)] | Literal["auto"] = pydantic.Field(
        "auto", description="steps of one call into TensorFlow, at most: see pipeline/README.md"
    )
    mixed_precision: bool = False
    init_from: Path | None = pydantic.Field(
        None, description="run whose embeddings and first-order weights are copied by field=value"
    )


class StrategyConfig(_Section):
    """More than one device or worker."""

    name: Literal["none", "mirrored", "multi_worker"] = "none"
    devices: int = pydantic.Field(1, ge=1, description="logical CPU devices (mirrored)")


class CalibrationConfig(_Section):
    """Fitted on the validation split after training; stored in the exported model.

    For the binary task; a regression has no probability to calibrate.
    """

    method: Literal["none", "platt", "isotonic"] = "none"
    negative_keep_rate: float = pydantic.Field(
        1.0, gt=0, le=1, description="share of the negatives that the log kept, in every split"
    )


class ExportConfig(_Section):
    """The model repository that TensorFlow Serving watches."""

    repository: Path = Path("models_repository")
    name: str | None = pydantic.Field(None, description="served name (default: the run's name)")


class RunConfig(_Section):
    """A whole run: data, model, optimizer, training, calibration, export."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = pydantic.Field(2024, ge=0)
    output: Path | None = pydantic.Field(None, description="run directory (default: runs/<name>)")
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    strategy: StrategyConfig = StrategyConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    export: ExportConfig = ExportConfig()

    @property
    def run_directory(self) -> Path:
        """Where the run writes."""
        return self.output or Path("runs") / self.name

    def metric(self, name: str) -> str:
        """The metric meant by `name`, with `auto` resolved by the task."""
        if name != "auto":
            return name
        return "auc" if self.training.task == "binary" else "rmse"

    @property
    def stopping_metric(self) -> str:
        """The validation metric that says which epoch is the best."""
        stop = self.training.early_stopping
        return self.metric(stop.metric if stop else "auto")

    @property
    def served_name(self) -> str:
        """The name under which the exported model is served."""
        return self.export.name or self.name

    def to_yaml(self) -> str:
        """The resolved configuration as YAML that loads back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read and validate a run configuration.

    Raises PipelineError with one line naming file and key, or FileNotFoundError.
    """
    path = find_config(path)
    tree = read_mapping(path)
    for override in overrides or []:
        apply_override(tree, override)
    return parse_config(tree, str(path))


def find_config(path: str | Path) -> Path:
    """A file by path, or one of the configurations that ship with the project by name."""
    path = Path(path)
    if path.is_file():
        return path
    folder = Path(__file__).parent / "configs"
    shipped = folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if len(path.parts) == 1 and shipped.is_file():
        return shipped
    names = sorted(item.stem for item in folder.glob("*.yaml"))
    raise FileNotFoundError(f"no configuration {str(path)!r}{nearest(str(path), names)}")


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key, as in `training.epochs=3`; the value is read as YAML."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise PipelineError(f"--set {override!r}: expected KEY=VALUE, as in training.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineError(f"--set {override!r}: the value is not valid YAML") from error
    *parents, last = key.split(".")
    node = tree
    for depth, parent in enumerate(parents, start=1):
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise PipelineError(
                f"--set {override!r}: {'.'.join(parents[:depth])} is {child!r}, not a section"
            )
        node = child
    node[last] = _number_or(value)


def _number_or(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` as text; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _plain_numbers(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _plain_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain_numbers(value) for value in node]
    if isinstance(node, str) and "e" in node.lower() and node[:1] in "0123456789.-+":
        return _number_or(node)
    return node


def parse_config(tree: dict[str, Any], where: str) -> RunConfig:
    """Validate a tree; every mistake found is named in one line."""
    return validate(RunConfig, _plain_numbers(tree), where)
