"""Everything a server can be told, with TensorFlow Serving's defaults."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tensorflow.core.protobuf import config_pb2

from serving.server_config import (
    BatchingParameters,
    ModelServerConfig,
    MonitoringConfig,
    SslConfig,
)

DEFAULT_THREADS = 4 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class ServerOptions:
    """Settings of one server.

    Attributes:
        models: configuration to start with.
        host: address both ports bind; only this machine unless told otherwise.
        port: gRPC port; 0 picks a free one, None opens none.
        rest_port: REST port; 0 picks a free one, None opens none.
        grpc_socket_path: unix socket gRPC also listens on, or "".
        model_config_file, model_config_poll_seconds: file re-read and applied periodically.
        file_system_poll_seconds: between listings of the base paths; 0 once, negative never.
        max_load_retries, load_retry_seconds: tries after a failed load.
        load_threads: loads at a time.
        labels_for_unavailable: new labels may point to versions not available.
        batching: parameters, or None for no batching.
        per_model_batching: parameters come from each version's `batching_params.pbtxt`.
        warmup, warmup_iterations: replay warm-up records, each so many times.
        monitoring: Prometheus endpoint.
        ssl: TLS of the gRPC port, or None.
        session: TensorFlow session options, or None.
        tags: meta-graph tags.
        grpc_arguments: further gRPC channel arguments.
        health_service: serve `grpc.health.v1.Health`.
        output_as_content: outputs as `tensor_content`.
        method_name_check: Classify and Regress refuse signatures of another method name.
        rest_timeout_seconds: limit of a REST request's run.
        rest_cors: send CORS headers.
        threads: worker threads that decode and run requests.
        max_requests: requests in the house before new ones are turned away.
        max_request_bytes: size of one gRPC message or REST body (also decompressed).
        max_held_bytes: bytes of REST bodies and gRPC messages held at a time.
        request_read_seconds: time a REST client has to send a request once it began.
        drain_seconds: time requests in flight get after SIGTERM.
    """

    models: ModelServerConfig = field(default_factory=ModelServerConfig)
    host: str = "127.0.0.1"
    port: int | None = 0
    rest_port: int | None = 0
    grpc_socket_path: str = ""
    model_config_file: Path | None = None
    model_config_poll_seconds: float = 0.0
    file_system_poll_seconds: float = 1.0
    max_load_retries: int = 5
    load_retry_seconds: float = 60.0
    load_threads: int = 1
    labels_for_unavailable: bool = False
    batching: BatchingParameters | None = None
    per_model_batching: bool = False
    warmup: bool = True
    warmup_iterations: int = 1
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)
    ssl: SslConfig | None = None
    session: config_pb2.ConfigProto | None = None
    tags: tuple[str, ...] = ("serve",)
    grpc_arguments: tuple[tuple[str, int | str], ...] = ()
    health_service: bool = False
    output_as_content: bool = False
    method_name_check: bool = False
    rest_timeout_seconds: float = 30.0
    rest_cors: bool = False
    threads: int = DEFAULT_THREADS
    max_requests: int = 1024
    max_request_bytes: int = 256 * 2**20
    max_held_bytes: int = 2**30
    request_read_seconds: float = 30.0
    drain_seconds: float = 30.0

    @property
    def batches(self) -> bool:
        """Whether any model may have batching queues."""
        return self.batching is not None or self.per_model_batching
