"""Reading variables, whether they live on one device or on several."""

from typing import Any

import keras
import numpy as np


def to_numpy(value: Any) -> np.ndarray:
    """The value of a Keras variable, a tensor, or a variable spread over replicas."""
    value = value.value if isinstance(value, keras.Variable) else value
    # A variable spread over replicas is no tensor; reading it makes one.
    return np.asarray(value.read_value() if hasattr(value, "read_value") else value)


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The rate of the next step."""
    return float(to_numpy(optimizer.learning_rate))
