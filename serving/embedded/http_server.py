"""uvicorn under our own event loop, with limits on how long a client may take to send a request."""

import asyncio
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.embedded.http_app import HttpApp

_BACKLOG = 512
_MAX_CONNECTIONS = 1000
_KEEP_ALIVE_SECONDS = 75


class TimedH11Protocol(H11Protocol):
    """HTTP/1.1 connection that is closed when a request does not arrive in time.

    uvicorn itself limits only the pause between requests, so a client that opens a connection and
    says nothing, or sends a byte now and then, would hold it for ever.
    """

    request_read_seconds = 30.0
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.close()
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            self._cancel_timer()
        elif self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._await_request()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # garbage behind a request that is being answered
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # a client that does not read its answer either
        else:
            super().timeout_keep_alive_handler()

    def _await_request(self) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.request_read_seconds, self._too_slow)

    def _cancel_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _too_slow(self) -> None:
        self._read_timer = None
        self.transport.abort()


class HttpServer:
    """The REST port.

    Args:
        app: ASGI application.
        host, port: where to listen; port 0 picks a free one.
        request_read_seconds: time a client has to send a whole request.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, app: HttpApp, host: str, port: int, request_read_seconds: float):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        protocol = type(
            "Protocol", (TimedH11Protocol,), {"request_read_seconds": request_read_seconds}
        )
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task | None = None

    async def start(self) -> None:
        """Open the port."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        if self._task.done():
            await self._task

    async def stop(self, grace: float) -> None:
        """Close the port, answer what is in flight for at most `grace` seconds."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()
