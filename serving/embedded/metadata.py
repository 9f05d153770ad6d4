"""Answers that describe models: GetModelMetadata, GetModelStatus, and their JSON forms."""

import json

from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
)

from serving.embedded.core import ServerCore
from serving.embedded.errors import invalid_argument, not_found
from serving.embedded.servable import Servable

_SIGNATURES = "signature_def"


def check_fields(fields: list[str]) -> None:
    """Refuse metadata requests for anything but `signature_def`.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if not fields:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != _SIGNATURES:
            raise invalid_argument(f"Metadata field {field} is not supported")


def model_metadata(servable: Servable) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """All signatures of a loaded version, the SavedModel's init op among them."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.model.meta_graph.signature_def.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata[_SIGNATURES].Pack(signatures)
    return response


def model_status(
    core: ServerCore, name: str, version: int | None = None
) -> get_model_status_pb2.GetModelStatusResponse:
    """States of all versions of a model ever seen, or of one of them.

    Raises:
        ServingError: NOT_FOUND for a model or version never seen.
    """
    known = core.monitor.versions(name)
    if version is not None:
        known = [state for state in known if state.version == version]
        if not known:
            raise not_found(f"Could not find version {version} of model {name}")
    if not known:
        raise not_found(f"Could not find any versions of model {name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    states = get_model_status_pb2.ModelVersionStatus.State
    for state in known:
        entry = response.model_version_status.add(
            version=state.version, state=states.Value(state.state)
        )
        if state.error is not None:
            entry.status.error_code = state.error.grpc_code.value[0]
            entry.status.error_message = state.error.message
        else:
            entry.status.error_code = 0
    return response


def to_json(message: Message) -> bytes:
    """Protobuf JSON as the REST API prints it: original names, unset fields too."""
    return json.dumps(_to_dict(message), indent=1).encode()


def metadata_json(servable: Servable) -> bytes:
    """REST form of the metadata: signatures doubly nested and without the type of the Any."""
    document = _to_dict(model_metadata(servable))
    document["metadata"][_SIGNATURES].pop("@type")
    return json.dumps(document, indent=1).encode()


def _to_dict(message: Message) -> dict:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
