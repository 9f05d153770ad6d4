"""SignatureDefs as the request path needs them: aliases, tensor names, dtypes, sorted once."""

from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.embedded.errors import ServingError

DEFAULT_SIGNATURE = "serving_default"
INIT_OP_SIGNATURE = "__saved_model_init_op"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        alias: the name clients use.
        name: the graph tensor, `op:index`.
        dtype: the TensorFlow dtype.
        shape: sizes with -1 for unknown, or None for unknown rank. Never enforced.
        numpy_dtype: what a decoded tensor of it has; strings are `object`.
    """

    alias: str
    name: str
    dtype: tf.DType
    shape: tuple[int, ...] | None
    numpy_dtype: np.dtype

    @property
    def dtype_name(self) -> str:
        """Lower-case C++ name as it stands in messages: `float`, `int64`, `string`."""
        return dtype_name(self.dtype)

    @property
    def is_string(self) -> bool:
        return self.dtype == tf.string


@dataclass(frozen=True)
class Signature:
    """A named entry point of a model; inputs and outputs are sorted by alias."""

    name: str
    method_name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    defaults: dict[str, np.ndarray]
    definition: meta_graph_pb2.SignatureDef
    feed_names: tuple[str, ...] = field(init=False)
    fetch_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Computed once here because every request needs them.
        object.__setattr__(self, "feed_names", tuple(s.name for s in self.inputs.values()))
        object.__setattr__(self, "fetch_names", tuple(s.name for s in self.outputs.values()))


def dtype_name(dtype: tf.DType) -> str:
    """C++ spelling of a dtype (`float`, not Python's `float32`)."""
    return {"float32": "float", "float64": "double", "float16": "half"}.get(dtype.name, dtype.name)


def read_signatures(meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, Signature]:
    """Signatures of a loaded SavedModel by name, the init-op one left out.

    Raises:
        ServingError: INVALID_ARGUMENT when a default value of a signature does not decode.
    """
    return {
        name: _read_signature(name, definition)
        for name, definition in meta_graph.signature_def.items()
        if name != INIT_OP_SIGNATURE
    }


def _read_signature(name: str, definition: meta_graph_pb2.SignatureDef) -> Signature:
    return Signature(
        name=name,
        method_name=definition.method_name,
        inputs=_read_specs(definition.inputs),
        outputs=_read_specs(definition.outputs),
        defaults={k: _read_default(name, k, v) for k, v in sorted(definition.defaults.items())},
        definition=definition,
    )


def _read_default(signature: str, alias: str, proto: object) -> np.ndarray:
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise ServingError(
            "INVALID_ARGUMENT", f"Default value of {signature}/{alias} does not decode: {error}"
        ) from error


def _read_specs(infos: dict[str, meta_graph_pb2.TensorInfo]) -> dict[str, TensorSpec]:
    return {alias: _read_spec(alias, infos[alias]) for alias in sorted(infos)}


def _read_spec(alias: str, info: meta_graph_pb2.TensorInfo) -> TensorSpec:
    dtype = tf.dtypes.as_dtype(info.dtype)
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(alias, info.name, dtype, shape, np.dtype(dtype.as_numpy_dtype))
