"""The optimizer of a run, from its configuration."""

import inspect
from typing import Any

import keras

from pipeline.config import OptimizerConfig
from pipeline.errors import PipelineError, nearest

DENSE = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "adagrad": keras.optimizers.Adagrad,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "ftrl": keras.optimizers.Ftrl,
    "nadam": keras.optimizers.Nadam,
    "lion": keras.optimizers.Lion,
}


def build_optimizer(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """The optimizer named; raises PipelineError on an unknown name or argument."""
    if config.name not in DENSE:
        raise PipelineError(
            f"optimizer.name: unknown optimizer {config.name!r}{nearest(config.name, DENSE)}"
        )
    cls = DENSE[config.name]
    accepted = [
        *inspect.signature(cls.__init__).parameters,
        *inspect.signature(keras.optimizers.Optimizer.__init__).parameters,
    ]
    arguments: dict[str, Any] = config.arguments
    for key in arguments:
        if key not in accepted:
            raise PipelineError(f"optimizer.{key}: unknown key{nearest(key, accepted)}")
    return cls(learning_rate=config.learning_rate, **arguments)
