"""Calls over gRPC: PredictionService and ModelService of tensorflow-serving-api."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.client.answers import Answer, Metadata, Signature, VersionStatus
from serving.client.errors import ClientError
from serving.client.retry import Call
from serving.client.target import Target
from serving.client.tls import TLS
from serving.tensors import from_proto, to_proto

_OPTIONS = [
    # Explanations of many rows exceed the default of 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Retries are ours (RetryPolicy): two layers of them would multiply.
    ("grpc.enable_retries", 0),
    # The default waits a second before the first reconnect, longer than all our retries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Scoring traffic is internal; a proxy set for the web would swallow it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
]
_STATES = get_model_status_pb2.ModelVersionStatus.State


@dataclass(frozen=True)
class _Request:
    method: str
    message: Any


class _Stubs:
    """The methods by name over one channel."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.methods: dict[str, Callable] = {
            "Predict": prediction.Predict,
            "GetModelMetadata": prediction.GetModelMetadata,
            "GetModelStatus": models.GetModelStatus,
            "HandleReloadConfigRequest": models.HandleReloadConfigRequest,
        }


class GrpcTransport:
    """One channel for blocking calls and one for each event loop that awaits."""

    def __init__(self, address: str, tls: TLS | None = None) -> None:
        self._address = address
        self._credentials = tls.grpc_credentials() if tls else None
        self._blocking: _Stubs | None = None
        self._awaiting: tuple[asyncio.AbstractEventLoop, _Stubs] | None = None

    def predict_call(
        self,
        target: Target,
        name: str,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
    ) -> Call:
        """Predict; only the `outputs` asked for travel back (all when empty)."""
        request = predict_pb2.PredictRequest(model_spec=_spec(target), output_filter=outputs)
        request.model_spec.signature_name = name
        for alias, array in inputs.items():
            request.inputs[alias].CopyFrom(to_proto(array))
        return Call(_Request("Predict", request), _read_prediction)

    def status_call(self, target: Target) -> Call:
        """States of one version, or of all."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec(target))
        return Call(_Request("GetModelStatus", request), _read_status)

    def metadata_call(self, target: Target) -> Call:
        """Signatures."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_spec(target), metadata_field=["signature_def"]
        )
        return Call(_Request("GetModelMetadata", request), _read_metadata)

    def reload_call(self, config: model_server_config_pb2.ModelServerConfig) -> Call:
        """Replace the server's whole configuration."""
        request = model_management_pb2.ReloadConfigRequest(config=config)
        return Call(_Request("HandleReloadConfigRequest", request), _read_reload)

    def send(self, call: Call, timeout: float) -> Any:
        """Perform a call by blocking."""
        if self._blocking is None:
            self._blocking = _Stubs(self._channel(grpc))
        method = self._blocking.methods[call.request.method]
        try:
            return call.decode(method(call.request.message, timeout=timeout))
        except grpc.RpcError as error:
            raise _client_error(error) from None
        except DecodeError as error:
            raise ClientError("DATA_LOSS", f"the reply does not decode: {error}") from None

    async def send_async(self, call: Call, timeout: float) -> Any:
        """Perform a call by awaiting."""
        loop = asyncio.get_running_loop()
        if self._awaiting is None or self._awaiting[0] is not loop:
            self._awaiting = (loop, _Stubs(self._channel(grpc.aio)))
        method = self._awaiting[1].methods[call.request.method]
        try:
            return call.decode(await method(call.request.message, timeout=timeout))
        except grpc.RpcError as error:
            raise _client_error(error) from None
        except DecodeError as error:
            raise ClientError("DATA_LOSS", f"the reply does not decode: {error}") from None

    def close(self) -> None:
        """Close the blocking channel."""
        if self._blocking is not None:
            self._blocking.channel.close()
            self._blocking = None

    async def close_async(self) -> None:
        """Close both channels."""
        self.close()
        if self._awaiting is not None:
            await self._awaiting[1].channel.close()
            self._awaiting = None

    def _channel(self, library: Any) -> Any:
        if self._credentials is None:
            return library.insecure_channel(self._address, _OPTIONS)
        return library.secure_channel(self._address, self._credentials, _OPTIONS)


def _spec(target: Target) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=target.model)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _client_error(error: grpc.RpcError) -> ClientError:
    return ClientError(error.code().name, error.details() or "no details")


def _read_prediction(response: predict_pb2.PredictResponse) -> Answer:
    outputs = {alias: from_proto(proto) for alias, proto in sorted(response.outputs.items())}
    return Answer(outputs, response.model_spec.version.value)


def _read_status(response: get_model_status_pb2.GetModelStatusResponse) -> list[VersionStatus]:
    return [
        VersionStatus(
            item.version,
            _STATES.Name(item.state),
            _code_name(item.status.error_code),
            item.status.error_message,
        )
        for item in response.model_version_status
    ]


def _code_name(number: int) -> str:
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return names.get(number, "UNKNOWN")


def _read_metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> Metadata:
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(definitions)
    spec = response.model_spec
    return Metadata.from_protos(spec.name, spec.version.value, definitions.signature_def)


def _read_reload(response: model_management_pb2.ReloadConfigResponse) -> None:
    if response.status.error_code:
        raise ClientError(_code_name(response.status.error_code), response.status.error_message)
