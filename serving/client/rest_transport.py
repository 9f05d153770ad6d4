"""Calls over TensorFlow Serving's REST API, in its column form (`inputs` -> `outputs`)."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.client.answers import Answer, Metadata, Signature, VersionStatus, numpy_dtype
from serving.client.errors import ClientError, code_of_http_status
from serving.client.retry import Call
from serving.client.target import Target
from serving.client.tls import TLS

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: bytes | None = None


class RestTransport:
    """A pool of kept-alive connections for blocking calls and one for the event loop that awaits.

    Environment variables that name proxies are not read: scoring traffic is internal.
    """

    def __init__(self, url: str, tls: TLS | None = None) -> None:
        self._settings = {
            "base_url": url,
            "limits": _LIMITS,
            "trust_env": False,
            "verify": tls.ssl_context() if tls else True,
        }
        self._blocking: httpx.Client | None = None
        self._awaiting: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    def predict_call(
        self,
        target: Target,
        name: str,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
    ) -> Call:
        """Predict. REST cannot leave outputs out, so those not asked for are dropped here."""
        body = {
            "signature_name": name,
            "inputs": {alias: _to_json(array) for alias, array in inputs.items()},
        }
        request = _Request("POST", f"{_path(target)}:predict", json.dumps(body).encode())
        return Call(request, lambda reply: _read_prediction(reply, signature, outputs))

    def status_call(self, target: Target) -> Call:
        """States of one version, or of all."""
        return Call(_Request("GET", _path(target)), _read_status)

    def metadata_call(self, target: Target) -> Call:
        """Signatures."""
        return Call(_Request("GET", f"{_path(target)}/metadata"), _read_metadata)

    def reload_call(self, config: model_server_config_pb2.ModelServerConfig) -> Call:
        """Always raises: the REST API has no such call."""
        raise ClientError("UNIMPLEMENTED", "reloading the configuration needs the gRPC address")

    def send(self, call: Call, timeout: float) -> Any:
        """Perform a call by blocking."""
        if self._blocking is None:
            self._blocking = httpx.Client(**self._settings)
        deadline = time.monotonic() + timeout
        try:
            with self._blocking.stream(**_arguments(call, timeout)) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    # httpx limits each read; a body that drips would outlive the deadline.
                    if time.monotonic() > deadline:
                        raise _deadline_exceeded(timeout)
        except httpx.HTTPError as error:
            raise _client_error(error, timeout) from None
        return _decode(call, response.status_code, bytes(body))

    async def send_async(self, call: Call, timeout: float) -> Any:
        """Perform a call by awaiting."""
        loop = asyncio.get_running_loop()
        if self._awaiting is None or self._awaiting[0] is not loop:
            self._awaiting = (loop, httpx.AsyncClient(**self._settings))
        try:
            request = self._awaiting[1].request(**_arguments(call, timeout))
            response = await asyncio.wait_for(request, timeout)
        except TimeoutError:
            raise _deadline_exceeded(timeout) from None
        except httpx.HTTPError as error:
            raise _client_error(error, timeout) from None
        return _decode(call, response.status_code, response.content)

    def close(self) -> None:
        """Close the blocking pool."""
        if self._blocking is not None:
            self._blocking.close()
            self._blocking = None

    async def close_async(self) -> None:
        """Close both pools."""
        self.close()
        if self._awaiting is not None:
            await self._awaiting[1].aclose()
            self._awaiting = None


def _path(target: Target) -> str:
    path = f"/v1/models/{quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return path if target.label is None else f"{path}/labels/{quote(target.label, safe='')}"


def _arguments(call: Call, timeout: float) -> dict[str, Any]:
    return {
        "method": call.request.method,
        "url": call.request.path,
        "content": call.request.body,
        "headers": {"Content-Type": "application/json"},
        "timeout": timeout,
    }


def _client_error(error: httpx.HTTPError, timeout: float) -> ClientError:
    if isinstance(error, httpx.TimeoutException):
        return _deadline_exceeded(timeout)
    # Not connected, or the connection broke before an answer: scoring may be asked again.
    return ClientError("UNAVAILABLE", str(error) or type(error).__name__)


def _deadline_exceeded(timeout: float) -> ClientError:
    return ClientError("DEADLINE_EXCEEDED", f"no answer within {timeout:.3g} s")


def _to_json(array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    flat = [_text_to_json(value) for value in array.ravel().tolist()]
    if array.ndim < 2:
        return flat if array.ndim else flat[0]
    width = array.shape[1]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _text_to_json(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}


def _decode(call: Call, status: int, body: bytes) -> Any:
    if status != 200:
        raise ClientError(code_of_http_status(status), _error_text(status, body))
    try:
        return call.decode(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClientError("DATA_LOSS", f"the reply is not as documented: {error}") from None


def _error_text(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):  # an HTML page of the HTTP library, or nothing
        return f"HTTP {status} without a JSON error"


def _read_prediction(reply: dict, signature: Signature, wanted: Sequence[str]) -> Answer:
    outputs = reply["outputs"]
    if len(signature.outputs) == 1:  # the only output comes without its name
        outputs = {next(iter(signature.outputs)): outputs}
    return Answer(
        {
            alias: _to_array(outputs[alias], signature.outputs[alias])
            for alias in sorted(wanted or signature.outputs)
        }
    )


def _to_array(value: Any, dtype: str) -> np.ndarray:
    if dtype != "string":
        return np.array(value, numpy_dtype(dtype))
    return np.vectorize(lambda text: text.encode(), otypes=[object])(np.array(value, object))


def _read_status(reply: dict) -> list[VersionStatus]:
    return [
        VersionStatus(
            int(item["version"]),
            item["state"],
            item["status"]["error_code"],
            item["status"]["error_message"],
        )
        for item in reply["model_version_status"]
    ]


def _read_metadata(reply: dict) -> Metadata:
    definitions = get_model_metadata_pb2.SignatureDefMap()
    signatures = reply["metadata"]["signature_def"]["signature_def"]
    json_format.ParseDict({"signature_def": signatures}, definitions, ignore_unknown_fields=True)
    spec = reply["model_spec"]
    return Metadata.from_protos(spec["name"], int(spec["version"]), definitions.signature_def)
