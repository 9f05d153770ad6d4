"""The one exception a client call raises for what happened on the wire or in the server."""

RETRYABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})

# HTTP statuses as TensorFlow Serving maps them; 400 stands for three codes, the commonest is taken.
_HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ClientError(ValueError):
    """A call failed.

    Attributes:
        code: the canonical status name, for example `NOT_FOUND` or `DEADLINE_EXCEEDED`.
        message: the server's text, or the client's own for what never reached the server.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {' '.join(message.split())}")
        self.code = code
        self.message = message

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed if sent again (scoring changes nothing)."""
        return self.code in RETRYABLE


def code_of_http_status(status: int) -> str:
    """Canonical status name of an HTTP status."""
    return _HTTP_CODES.get(status, "INTERNAL" if status >= 500 else "UNKNOWN")
