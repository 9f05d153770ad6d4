"""Keras 3 models of the factorization-machine family, all reached through one registry."""

import importlib
import pkgutil

import keras

from models.base import CTRModel
from models.features import Features, Field
from models.zoo import build, entry, names

# Importing a model's file registers it, so a new model is one new file and no other change.
for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        importlib.import_module(f"{__name__}.{_module.name}")

# A saved model names its optimizer, which only TensorFlow can run.
if keras.config.backend() == "tensorflow":
    importlib.import_module(f"{__name__}.optimizers")

__all__ = ["CTRModel", "Features", "Field", "build", "entry", "names"]
