"""What calls return: scores, version states, metadata."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.columns import Column


@dataclass(frozen=True)
class Answer(Mapping[str, np.ndarray]):
    """Output alias -> array, as a mapping.

    Attributes:
        outputs: the arrays; axis 0 is rows or candidates.
        version: the model version that answered; None over REST, which does not tell.
    """

    outputs: dict[str, np.ndarray]
    version: int | None = None

    def __getitem__(self, alias: str) -> np.ndarray:
        return self.outputs[alias]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True)
class VersionStatus:
    """State of one version: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""

    @property
    def available(self) -> bool:
        return self.state == "AVAILABLE"

    @property
    def failed(self) -> bool:
        return self.state == "END" and self.error_code != "OK"


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of one signature; dtypes are TensorFlow's names (`string`, `float32`)."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    optional: frozenset[str]

    def columns(self) -> dict[str, Column]:
        """The inputs as raw columns.

        Raises:
            ValueError: an input is of a dtype that no raw column has.
        """
        return {
            alias: Column(alias, dtype, required=alias not in self.optional)
            for alias, dtype in self.inputs.items()
        }

    @classmethod
    def from_proto(cls, definition: meta_graph_pb2.SignatureDef) -> "Signature":
        """Read a SignatureDef."""
        return cls(
            {alias: _dtype(info.dtype) for alias, info in sorted(definition.inputs.items())},
            {alias: _dtype(info.dtype) for alias, info in sorted(definition.outputs.items())},
            frozenset(definition.defaults),
        )


@dataclass(frozen=True)
class Metadata:
    """Signatures of the version that would answer now."""

    name: str
    version: int
    signatures: dict[str, Signature]

    @classmethod
    def from_protos(
        cls, name: str, version: int, definitions: Mapping[str, meta_graph_pb2.SignatureDef]
    ) -> "Metadata":
        """Leaves out the entry without inputs and outputs by which a SavedModel initializes."""
        signatures = {
            key: Signature.from_proto(definition)
            for key, definition in sorted(definitions.items())
            if not key.startswith("__")
        }
        return cls(name, version, signatures)


def _dtype(number: int) -> str:
    return tf.as_dtype(number).name


def numpy_dtype(dtype: str) -> type:
    """NumPy dtype of a TensorFlow dtype's name; text is an object array of bytes."""
    return tf.as_dtype(dtype).as_numpy_dtype
