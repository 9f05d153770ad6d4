"""What surrounds `model.fit`; every callback with a memory can be checkpointed."""

from pipeline.callbacks.averages import AveragedWeights
from pipeline.callbacks.base import StatefulCallback, validation_value
from pipeline.callbacks.checkpointing import Checkpointing, RestoreMetrics
from pipeline.callbacks.early_stopping import EarlyStopping
from pipeline.callbacks.history import HistoryCsv
from pipeline.callbacks.learning_rate import ReduceLearningRate, WarmUp
from pipeline.callbacks.nan_stop import NanStop, NonFiniteLossError
from pipeline.callbacks.position import Position
from pipeline.callbacks.progress import Progress
from pipeline.callbacks.tensorboard import TensorBoardScalars
from pipeline.callbacks.validation import Validation

__all__ = [
    "AveragedWeights",
    "Checkpointing",
    "EarlyStopping",
    "HistoryCsv",
    "NanStop",
    "NonFiniteLossError",
    "Position",
    "Progress",
    "ReduceLearningRate",
    "RestoreMetrics",
    "StatefulCallback",
    "TensorBoardScalars",
    "Validation",
    "WarmUp",
    "validation_value",
]
