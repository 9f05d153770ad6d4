"""Short ways to call a server under test over real sockets."""

import time
from collections.abc import Callable

import grpc
import httpx
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.embedded import Server

TIMEOUT = 30.0


class Calls:
    """gRPC stubs and an HTTP client of one server."""

    def __init__(self, server: Server):
        self.server = server
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{server.grpc_port}", options=[("grpc.max_receive_message_length", -1)]
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{server.rest_port}", timeout=TIMEOUT, trust_env=False
        )

    def close(self) -> None:
        self.http.close()
        self.channel.close()

    def __enter__(self) -> "Calls":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def post(self, path: str, body: object) -> httpx.Response:
        """POST a JSON value, or text and bytes as they are, to `/v1/models/<path>`."""
        content = body if isinstance(body, str | bytes) else None
        return self.http.post(
            f"/v1/models/{path}", content=content, json=None if content is not None else body
        )

    def error(self, path: str, body: object, status: int = 400) -> str:
        """The error text of a POST that must fail with `status`."""
        response = self.post(path, body)
        assert response.status_code == status, response.text
        assert list(response.json()) == ["error"]
        return response.json()["error"]

    def predict(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        """Outputs of a gRPC Predict as arrays."""
        response = self.prediction.Predict(request, timeout=TIMEOUT)
        return {alias: tf.make_ndarray(tensor) for alias, tensor in response.outputs.items()}

    def metadata(self, model: str) -> get_model_metadata_pb2.GetModelMetadataResponse:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        return self.prediction.GetModelMetadata(request, timeout=TIMEOUT)

    def states(self, model: str) -> dict[int, str]:
        """State names by version, from gRPC GetModelStatus; empty for an unknown model."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self.models.GetModelStatus(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            return {}
        names = get_model_status_pb2.ModelVersionStatus.State
        return {s.version: names.Name(s.state) for s in response.model_version_status}

    def reload(self, config: object) -> model_management_pb2.ReloadConfigResponse:
        request = model_management_pb2.ReloadConfigRequest(config=config)
        return self.models.HandleReloadConfigRequest(request, timeout=TIMEOUT)


def predict_request(
    model: str, signature: str = "", version: int | None = None, **inputs: object
) -> predict_pb2.PredictRequest:
    """A PredictRequest; inputs are arrays, or TensorProtos taken as they are."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for alias, value in inputs.items():
        is_proto = hasattr(value, "tensor_shape")
        request.inputs[alias].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return request


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Code name and details of a gRPC call that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the call did not fail")


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds, checking often; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
