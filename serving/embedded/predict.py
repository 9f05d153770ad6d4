"""gRPC Predict: PredictRequest -> feeds and fetches -> PredictResponse."""

from collections.abc import Iterable

import numpy as np
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving.embedded import tensor_proto
from serving.embedded.errors import failed_precondition, invalid_argument
from serving.embedded.servable import Servable, Work
from serving.embedded.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec


def plan(servable: Servable, request: predict_pb2.PredictRequest, as_content: bool = False) -> Work:
    """Check a Predict request against its signature and decode its tensors.

    Args:
        servable: the version that answers.
        request: the message as received.
        as_content: outputs as `tensor_content` instead of typed lists.

    Raises:
        ServingError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs
            that do not fit it.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.model.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    feeds = _feeds(request.inputs, signature)
    outputs = _chosen_outputs(request.output_filter, signature)

    def finish(arrays: list[np.ndarray]) -> bytes:
        response = predict_pb2.PredictResponse()
        fill_spec(response.model_spec, servable, name)
        for spec, array in zip(outputs, arrays, strict=True):
            encoded = tensor_proto.encode(array, spec.dtype, as_content)
            response.outputs[spec.alias].CopyFrom(encoded)
        return response.SerializeToString()

    return Work(
        "Predict", signature.feed_names, feeds, tuple(spec.name for spec in outputs), finish
    )


def fill_spec(spec: model_pb2.ModelSpec, servable: Servable, signature: str) -> None:
    """Write who answered: name, version, effective signature."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature


def _names(aliases: Iterable[str]) -> str:
    return "{" + ",".join(sorted(aliases)) + "}"


def _feeds(sent: dict, signature: Signature) -> list[np.ndarray]:
    wanted = signature.inputs
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_names(sent)}) != len({_names(wanted)}). "
            f"Sent extra: {_names(set(sent) - set(wanted))}. "
            f"Missing but required: {_names(set(wanted) - set(sent) - set(signature.defaults))}."
        )
    if any(alias not in wanted for alias in sent):
        unknown = _names(set(sent) - set(wanted))
        raise invalid_argument(f"Inputs contains invalid name. Invalid: {unknown}")
    return [_feed(sent, spec, i, signature) for i, spec in enumerate(wanted.values())]


def _feed(sent: dict, spec: TensorSpec, index: int, signature: Signature) -> np.ndarray:
    if spec.alias not in sent:  # a protobuf map would insert the key on plain access
        default = signature.defaults.get(spec.alias)
        if default is None:
            raise invalid_argument(
                f"input {spec.alias} not found in request and no default value provided."
            )
        return default
    array = tensor_proto.decode(spec.alias, sent[spec.alias])
    if array.dtype != spec.numpy_dtype:
        given = tensor_proto.type_name(sent[spec.alias].dtype)
        raise invalid_argument(
            f"Expects arg[{index}] to be {spec.dtype_name} but {given} is provided"
        )
    return array


def _chosen_outputs(wanted: Iterable[str], signature: Signature) -> list[TensorSpec]:
    if not wanted:
        return list(signature.outputs.values())
    chosen: dict[str, TensorSpec] = {}
    for alias in wanted:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_names(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen[alias] = signature.outputs[alias]
    # Sorted, so that equal sets share one compiled run and one batching queue.
    return [chosen[alias] for alias in sorted(chosen)]
