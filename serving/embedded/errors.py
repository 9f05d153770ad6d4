"""The one exception of the server and its two spellings: gRPC status and HTTP status."""

import json

import grpc
import tensorflow as tf

from serving.server_config import ServerConfigError

_HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_GRPC_CODES = {code.name: code for code in grpc.StatusCode}
_CODE_NUMBERS = {code.value[0]: code.name for code in grpc.StatusCode}
_GRPC_DETAIL_LIMIT = 1024
_TRUNCATED = "...TRUNCATED"


class ServingError(ValueError):
    """A request or a load that failed with a status.

    Attributes:
        code: canonical status name, for example `INVALID_ARGUMENT`.
        message: the text a client sees, without the code.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        return _HTTP_STATUS.get(self.code, 500)

    @property
    def grpc_code(self) -> grpc.StatusCode:
        return _GRPC_CODES.get(self.code, grpc.StatusCode.UNKNOWN)

    @property
    def grpc_details(self) -> str:
        """The message, cut the way TensorFlow Serving cuts gRPC details."""
        if len(self.message) <= _GRPC_DETAIL_LIMIT:
            return self.message
        return self.message[:_GRPC_DETAIL_LIMIT] + _TRUNCATED

    def nested(self) -> str:
        """Text of this status inside another message: `CODE: message`."""
        return f"{self.code}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)


def not_found(message: str) -> ServingError:
    return ServingError("NOT_FOUND", message)


def failed_precondition(message: str) -> ServingError:
    return ServingError("FAILED_PRECONDITION", message)


def unimplemented(message: str) -> ServingError:
    return ServingError("UNIMPLEMENTED", message)


def from_exception(error: BaseException) -> ServingError:
    """Map anything raised while serving to a status; unknown faults keep their text to themselves.

    TensorFlow's errors carry their own code and a message meant for clients. Whatever else is
    raised is a fault of ours: the client learns only its kind, never a stack trace.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        code = _CODE_NUMBERS.get(error.error_code, "UNKNOWN")
        return ServingError(code, error.message)
    if isinstance(error, ServerConfigError):
        return invalid_argument(str(error))
    if isinstance(error, MemoryError):
        return ServingError("RESOURCE_EXHAUSTED", "Out of memory while handling the request")
    return ServingError("INTERNAL", f"Internal error: {type(error).__name__}")


def json_error_body(message: str) -> bytes:
    """The REST error body: an object with the single key `error`, indented by 4 spaces."""
    text = json.dumps(message, ensure_ascii=False)
    return f'{{\n    "error": {text}\n}}'.encode("utf-8", "surrogateescape")
