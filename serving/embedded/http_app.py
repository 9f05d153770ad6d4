"""The ASGI application of the REST port: bodies, limits, headers, and what is not an API path."""

import zlib
from collections.abc import Awaitable, Callable

from serving.embedded.errors import ServingError, from_exception, json_error_body
from serving.embedded.metrics import Metrics
from serving.embedded.options import ServerOptions
from serving.embedded.rest_api import Answer, RestApi
from serving.embedded.runner import Admission

Receive = Callable[[], Awaitable[dict]]
Send = Callable[[dict], Awaitable[None]]

_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_GZIP_LIMIT = 100 * 2**20
_HTML = (
    b"<HTML><HEAD>\n<TITLE>%(status)s</TITLE>\n</HEAD><BODY>\n<H1>%(reason)s</H1>\n</BODY></HTML>\n"
)


class ClientGoneError(ConnectionError):
    """The client closed the connection before its request was complete."""


class HttpApp:
    """ASGI callable.

    Args:
        api: answers what is an API path.
        admission: bounds on requests and bytes in the house.
        metrics: served on the monitoring path.
        options: the server's settings.
    """

    def __init__(
        self, api: RestApi, admission: Admission, metrics: Metrics, options: ServerOptions
    ):
        self._api = api
        self._admission = admission
        self._metrics = metrics
        self._options = options

    async def __call__(self, scope: dict, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._admitted(scope, receive)
        except ClientGoneError:
            return
        except Exception as error:
            failure = from_exception(error)
            answer = self._api.refuse(scope["method"], _target(scope), failure)
        await self._send(scope, answer, send)

    async def _admitted(self, scope: dict, receive: Receive) -> Answer:
        method, target = scope["method"], _target(scope)
        if method not in _METHODS:
            return _html(501, "Not Implemented")
        path, _, query = target.partition("?")
        monitoring = self._options.monitoring
        if monitoring.enabled and path == monitoring.path:
            if query:
                body = json_error_body(f"Unexpected path: {target}")
                return Answer(400, body, b"text/plain")
            return Answer(200, self._metrics.exposition(), b"text/plain")
        if not target.startswith("/v1/"):
            return _html(404, "Not Found")
        if method == "OPTIONS":
            return _preflight(scope)
        self._admission.enter()
        body = bytearray()
        try:
            await self._read(body, receive)
            text = _decoded(scope, bytes(body), self._options.max_request_bytes)
            return await self._api.answer(method, target, text)
        finally:
            self._admission.leave(len(body))

    async def _read(self, body: bytearray, receive: Receive) -> None:
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = event.get("body", b"")
            if len(body) + len(chunk) > self._options.max_request_bytes:
                raise ServingError(
                    "RESOURCE_EXHAUSTED",
                    f"Request body is larger than {self._options.max_request_bytes} bytes",
                )
            self._admission.take_bytes(len(chunk))
            body += chunk
            if not event.get("more_body"):
                return

    async def _send(self, scope: dict, answer: Answer, send: Send) -> None:
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        if answer.close:
            headers.append((b"connection", b"close"))
        if self._options.rest_cors and answer.content_type == b"application/json":
            headers += [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-allow-methods", b"POST, GET"),
                (b"access-control-allow-headers", b"Content-Type"),
            ]
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await send(start)
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


def _target(scope: dict) -> str:
    target = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return f"{target}?{query}" if query else target


def _html(status: int, reason: str) -> Answer:
    title = f"{status} {reason}".encode()
    body = _HTML % {b"status": title, b"reason": reason.encode()}
    return Answer(status, body, b"text/html", close=True)


def _preflight(scope: dict) -> Answer:
    origin = dict(scope["headers"]).get(b"origin", b"")
    return Answer(200 if origin.startswith(b"http") else 400, b"")


def _decoded(scope: dict, body: bytes, limit: int) -> bytes:
    """The body, decompressed if it says gzip; what does not decompress counts as empty."""
    encoding = dict(scope["headers"]).get(b"content-encoding", b"")
    if b"gzip" not in encoding:
        return body
    limit = min(limit, _GZIP_LIMIT)
    decompressor = zlib.decompressobj(wbits=31)
    try:
        text = decompressor.decompress(body, limit + 1)
    except zlib.error:
        return b""
    return text if decompressor.eof and len(text) <= limit else b""
