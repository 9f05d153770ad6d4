"""The moving averages of the weights in the place of the weights, while they are measured and kept.

An optimizer with `use_ema: true` keeps an average of each weight beside it. What a run validates,
stops by, saves and serves are these averages; what it goes on training are the weights.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pipeline.variables import to_numpy


class AveragedWeights(keras.callbacks.Callback):
    """Holds the model's variables while the averages are in their place.

    It must stand behind the callbacks that keep the best weights: at an epoch's end it gives back
    what validation, by calling `take`, has replaced.

    Args:
        read_batches: gives the training inputs by which batch normalization is fitted to the
            averages; called once, and not at all where the model has none.
    """

    def __init__(self, read_batches: Callable[[], list[dict[str, np.ndarray]]]) -> None:
        super().__init__()
        self._read_batches = read_batches
        self._batches: list[dict[str, np.ndarray]] | None = None
        self._held: list[np.ndarray] = []

    def take(self) -> None:
        """Put the averages into the model."""
        model, optimizer = self.model, self.model.optimizer
        self._held = [to_numpy(variable) for variable in model.variables]
        # Keras has no public name for them; its own SwapEMAWeights reads them so too.
        for weight, average in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        ):
            weight.assign(to_numpy(average))
        layers = _batch_normalizations(model)
        if layers:
            self._batches = self._batches or self._read_batches()
            _fit_statistics(layers, model, self._batches)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._give_back()

    def on_train_end(self, logs: Any = None) -> None:
        # Keras has put the averages into the model for good; another call of `fit` may follow.
        self._give_back()

    def _give_back(self) -> None:
        for variable, value in zip(self.model.variables, self._held, strict=True):
            variable.assign(value)


def _batch_normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def _fit_statistics(
    layers: list[keras.layers.BatchNormalization],
    model: keras.Model,
    batches: list[dict[str, np.ndarray]],
) -> None:
    """Makes the layers' moving statistics the mean over `batches` of each batch's statistics.

    Those collected in training belong to weights that move more than their averages do, so that
    activations vary more (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
    Generalization", section 3.2).
    """
    momenta = [layer.momentum for layer in layers]
    try:
        for number, inputs in enumerate(batches):
            for layer in layers:
                layer.momentum = number / (number + 1)
            model(inputs, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
