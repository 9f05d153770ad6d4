"""The server as a whole: start, wait for models, open ports, drain, stop."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from serving.embedded.core import ServerCore
from serving.embedded.errors import ServingError
from serving.embedded.grpc_server import GrpcServer
from serving.embedded.grpc_services import GrpcServices
from serving.embedded.http_app import HttpApp
from serving.embedded.http_server import HttpServer
from serving.embedded.loader import ServableLoader
from serving.embedded.metrics import Metrics
from serving.embedded.options import ServerOptions
from serving.embedded.rest_api import RestApi
from serving.embedded.runner import Admission, Runner
from serving.embedded.states import StateMonitor
from serving.embedded.version_manager import VersionManager
from serving.server_config import ServerConfigError, read_models_config, single_model_config

logger = logging.getLogger(__name__)

# What is still running when the ports have closed had its grace already.
_UNLOAD_SECONDS = 2.0


class Server:
    """TensorFlow Serving's stand-in, in this process.

    The event loop runs in a thread of its own, so a server can be started next to anything else:

        with Server(options) as server:
            channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")

    Args:
        options: the settings; see `ServerOptions`.
    """

    def __init__(self, options: ServerOptions):
        self.options = options
        self.metrics = Metrics()
        self.monitor = StateMonitor()
        self._loader = ServableLoader(options, self.metrics)
        self.manager = VersionManager(
            self._loader.load,
            self.monitor,
            max_retries=options.max_load_retries,
            retry_interval=options.load_retry_seconds,
            load_threads=options.load_threads,
        )
        self.core = ServerCore(
            self.manager,
            self.monitor,
            poll_interval=options.file_system_poll_seconds,
            labels_for_unavailable=options.labels_for_unavailable,
        )
        self.admission = Admission(options.max_requests, options.max_held_bytes)
        self._runner = Runner(options.threads, options.batches)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="serving-loop", daemon=True)
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._stopped = threading.Event()
        self._drained = False
        self._stop_lock = threading.Lock()

    @classmethod
    def for_model(cls, base_path: str | Path, name: str = "default", **options: object) -> "Server":
        """A server of one model on free ports.

        Args:
            base_path: folder of version folders.
            name: model name.
            **options: fields of `ServerOptions`.
        """
        models = single_model_config(name, str(Path(base_path).absolute()))
        return cls(ServerOptions(models=models, **options))

    @property
    def grpc_port(self) -> int | None:
        """Port gRPC listens on, or None."""
        return self._grpc.port or None if self._grpc else None

    @property
    def rest_port(self) -> int | None:
        """Port REST listens on, or None."""
        return self._http.port if self._http else None

    def start(
        self, timeout: float | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> "Server":
        """Load the models, then open the ports.

        Args:
            timeout: seconds to wait for the models; None waits for ever, as TensorFlow Serving
                does for a model without a version on disk.
            cancelled: asked while waiting; true gives up.

        Raises:
            ServingError: a refused configuration, a model that finally failed to load, a port
                that cannot be bound, or the timeout. The server is stopped then.
        """
        self._thread.start()
        try:
            new = self.core.apply(self.options.models)
            self.core.wait_until_settled(new, timeout, cancelled)
            asyncio.run_coroutine_threadsafe(self._open_ports(), self._loop).result()
        except BaseException:
            self.stop(grace=0.0)
            raise
        if self.options.model_config_file and self.options.model_config_poll_seconds > 0:
            threading.Thread(target=self._poll_config, name="config-poll", daemon=True).start()
        return self

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def address_line(self) -> str:
        """The chosen ports as one line for people and scripts."""
        parts = []
        scheme = " (TLS)" if self.options.ssl else ""
        if self.grpc_port:
            parts.append(f"gRPC{scheme} on {self.options.host}:{self.grpc_port}")
        if self.options.grpc_socket_path:
            parts.append(f"gRPC on unix:{self.options.grpc_socket_path}")
        if self.rest_port:
            parts.append(f"REST on {self.options.host}:{self.rest_port}")
        return "serving " + ", ".join(parts)

    def wait(self) -> None:
        """Block until the server has been stopped."""
        self._stopped.wait()

    def stop(self, grace: float | None = None) -> bool:
        """Refuse new requests, finish those in flight, unload everything. May be called twice.

        Args:
            grace: seconds requests in flight get; None for the option `drain_seconds`.

        Returns:
            Whether everything in flight was finished. If not, threads still run the graph.
        """
        with self._stop_lock:
            if not self._stopped.is_set():
                self._drained = self._stop(self.options.drain_seconds if grace is None else grace)
                self._stopped.set()
            return self._drained

    def _stop(self, grace: float) -> bool:
        # First, so that whoever waits for models to load (a reload call) lets go.
        self.core.stop_waiting()
        if self._thread.is_alive():
            closing = self._close_ports(grace)
            asyncio.run_coroutine_threadsafe(closing, self._loop).result()
        self._runner.close()
        drained = self.core.close(_UNLOAD_SECONDS)
        if drained:
            self._loader.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        return drained

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _open_ports(self) -> None:
        options = self.options
        if options.port is not None or options.grpc_socket_path:
            services = GrpcServices(self.core, self._runner, self.admission, self.metrics, options)
            self._grpc = GrpcServer(services, options)
            await self._grpc.start()
        if options.rest_port is not None:
            api = RestApi(self.core, self._runner, self.metrics, options)
            app = HttpApp(api, self.admission, self.metrics, options)
            try:
                self._http = HttpServer(
                    app, options.host, options.rest_port, options.request_read_seconds
                )
            except OSError as error:
                raise ServingError(
                    "UNAVAILABLE",
                    f"Cannot listen on {options.host}:{options.rest_port}: {error.strerror}",
                ) from error
            await self._http.start()

    async def _close_ports(self, grace: float) -> None:
        stops = [port.stop(grace) for port in (self._grpc, self._http) if port is not None]
        await asyncio.gather(*stops)

    def _poll_config(self) -> None:
        while not self._stopped.wait(self.options.model_config_poll_seconds):
            try:
                self.core.apply(read_models_config(self.options.model_config_file))
            except (ServerConfigError, ServingError) as error:
                logger.error("Configuration not applied: %s", error)
