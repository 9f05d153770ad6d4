"""The gRPC port: a grpc.aio server with our services, TLS and health."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.embedded.errors import ServingError
from serving.embedded.grpc_services import GrpcServices
from serving.embedded.options import ServerOptions
from serving.server_config import SslConfig

_HEALTH_NAMES = ("", "ModelService", "PredictionService")
_KEEPALIVE = (
    # A peer that has silently gone is noticed and its connection freed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class GrpcServer:
    """The gRPC port (and unix socket) of one server. Make it inside the running event loop.

    Args:
        services: what it serves.
        options: the server's settings.

    Raises:
        ServingError: UNAVAILABLE when the address cannot be bound.
    """

    def __init__(self, services: GrpcServices, options: ServerOptions):
        arguments = [
            ("grpc.max_receive_message_length", options.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            *_KEEPALIVE,
            *options.grpc_arguments,
        ]
        self._server = grpc.aio.server(options=arguments)
        self._server.add_generic_rpc_handlers(services.handlers())
        self._health = health.aio.HealthServicer() if options.health_service else None
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = self._bind(options)
        if options.grpc_socket_path:
            self._server.add_insecure_port(f"unix:{options.grpc_socket_path}")

    def _bind(self, options: ServerOptions) -> int:
        if options.port is None:
            return 0
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"{host}:{options.port}"
        try:
            if options.ssl is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials(options.ssl))
        except RuntimeError as error:
            raise ServingError("UNAVAILABLE", f"Cannot listen on {address}: {error}") from error

    async def start(self) -> None:
        """Open the port; health turns SERVING."""
        if self._health is not None:
            for name in _HEALTH_NAMES:
                await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no new calls; those in flight get `grace` seconds."""
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


def credentials(config: SslConfig) -> grpc.ServerCredentials:
    """TLS of the gRPC port; with `client_verify` only clients with a certificate get in."""
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
