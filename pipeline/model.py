"""The model that a configuration names, initialized and compiled for training."""

import math
from typing import TYPE_CHECKING

import keras
from rich.console import Console

import models
from models.zoo import check_arguments
from pipeline.config import RunConfig, TrainingConfig
from pipeline.errors import PipelineError
from pipeline.optimizers import build_optimizer, gains_from_xla, optimizer_class
from pipeline.rundir import Run

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset


def build_model(config: RunConfig, prepared: "PreparedDataset") -> keras.Model:
    """The configured model with its weights initialized from the seed."""
    manifest = prepared.manifest
    features = models.Features.from_fields(manifest["num_features"], manifest["fields"])
    keras.utils.set_random_seed(config.seed)
    arguments = config.model.arguments
    if config.training.mixed_precision:
        # bfloat16 has float32's range, so that no loss scaling is needed.
        arguments.setdefault("dtype", "mixed_bfloat16")
    try:
        return models.build(config.model.name, features, **arguments)
    except (TypeError, ValueError) as error:
        raise PipelineError(f"model {config.model.name!r} with {arguments}: {error}") from error


def check_names(config: RunConfig) -> None:
    """Raises ValueError where the model or the optimizer, or one of their keys, is unknown."""
    check_arguments(config.model.name, config.model.arguments)
    optimizer_class(config.optimizer)


def steps_per_execution(training: TrainingConfig, steps_per_epoch: int, replicas: int) -> int:
    """Steps that one call into TensorFlow takes; between calls the callbacks run.

    A number that divides the steps of an epoch, and those between checkpoints: Keras would go on
    into the next epoch's batches to complete a call.
    """
    if training.warmup_steps:
        return 1  # the rate is set between calls
    most = training.steps_per_execution
    if most == "auto":
        # Small batches gain, as a call costs a millisecond or two; an epoch keeps 100 calls, for
        # its progress and for where a loss that is no number is found.
        few = min(16, 8192 // training.batch_size, steps_per_epoch // 100)
        most = few if replicas == 1 else 1
    whole = math.gcd(steps_per_epoch, training.checkpoint.every_steps or 0)
    return max((count for count in range(2, most + 1) if whole % count == 0), default=1)


def compiled_model(
    config: RunConfig,
    prepared: "PreparedDataset",
    steps_per_epoch: int,
    replicas: int,
    console: Console,
) -> keras.Model:
    """The model with its optimizer and loss, begun with another run's weights where configured."""
    training, manifest = config.training, prepared.manifest
    model = build_model(config, prepared)
    if training.init_from:
        from pipeline.transfer import copy_by_token

        copied = copy_by_token(Run.load(training.init_from), model, prepared)
        console.print(f"copied {copied} from {training.init_from}")
    optimizer = build_optimizer(
        config.optimizer,
        manifest["num_features"],
        manifest["num_positions"],
        training.batch_size,
    )
    jit = training.jit_compile
    if jit == "auto":
        jit = replicas == 1 and gains_from_xla(optimizer)
    binary = training.task == "binary"
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.BinaryCrossentropy(from_logits=True)
        if binary
        else keras.losses.MeanSquaredError(),
        jit_compile=jit,
        steps_per_execution=steps_per_execution(training, steps_per_epoch, replicas),
    )
    optimizer.build(model.trainable_variables)
    return model
