"""Command-line flags: `tensorflow_model_server`'s names, and a few of our own for limits."""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from serving.embedded.options import DEFAULT_THREADS, ServerOptions
from serving.server_config import (
    BatchingParameters,
    ModelServerConfig,
    MonitoringConfig,
    ServerConfigError,
    read_batching_parameters,
    read_models_config,
    read_monitoring_config,
    read_session_config,
    read_ssl_config,
    single_model_config,
)

_IGNORED = (
    "flush_filesystem_caches",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "enable_profiler",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
)
# Our own word, so that nothing TensorFlow Serving understands means something else here.
_AUTO = "auto"
_FREE_PORT = -1
_REFUSED = (
    "mixed_precision",
    "prefer_tflite_model",
    "thread_pool_factory_config_file",
    "platform_config_file",
)


def _boolean(text: str) -> bool:
    value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"expected true or false; got {text!r}")
    return value


def _port(text: str) -> int:
    if text == _AUTO:
        return _FREE_PORT
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535 or auto; got {text!r}")
    return int(text)


def make_parser(prog: str = "python -m serving.embedded") -> argparse.ArgumentParser:
    """The parser of all flags; `--name=value`, booleans also bare."""
    parser = argparse.ArgumentParser(
        prog=prog,
        allow_abbrev=False,
        description="A local stand-in for tensorflow_model_server: same protocol, flags and files.",
        epilog=f"example: {prog} --model_name=ctr --model_base_path=$PWD/models_repository/ctr",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_ports(parser)
    _add_models(parser)
    _add_features(parser)
    _add_limits(parser)
    for name in (*_IGNORED, *_REFUSED):
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="store_true", help="print versions and exit")
    return parser


def _flag(parser: argparse.ArgumentParser, name: str, default: bool, text: str) -> None:
    parser.add_argument(
        f"--{name}", nargs="?", const=True, default=default, type=_boolean, help=text
    )


def _add_ports(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--port", type=_port, default=8500, help="gRPC port; 0: none; auto: a free one")
    add("--rest_api_port", type=_port, default=0, help="REST port; 0: none; auto: a free one")
    add("--bind_address", default="127.0.0.1", help="address of both ports (0.0.0.0: everyone)")
    add("--grpc_socket_path", default="", help="unix socket gRPC also listens on")
    add("--ssl_config_file", default="", help="text SSLConfig: TLS of the gRPC port")
    add("--grpc_channel_arguments", default="", help="key=value,key=value")
    add("--grpc_max_threads", type=int, default=0, help="worker threads (0: 4 x CPUs)")
    add("--rest_api_num_threads", type=int, default=0, help="worker threads (0: 4 x CPUs)")
    add("--rest_api_timeout_in_ms", type=int, default=30000, help="limit of a REST request's run")
    _flag(parser, "rest_api_enable_cors_support", False, "send CORS headers")


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model_name", default="default", help="name of the one model")
    add("--model_base_path", default="", help="absolute path that holds its version folders")
    add("--model_config_file", default="", help="text ModelServerConfig; replaces the two above")
    add("--model_config_file_poll_wait_seconds", type=int, default=0, help="0: read once")
    add("--file_system_poll_wait_seconds", type=int, default=1, help="0: once, negative: never")
    add("--max_num_load_retries", type=int, default=5, help="tries after a failed load")
    add("--load_retry_interval_micros", type=int, default=60_000_000, help="between tries")
    add("--num_load_threads", type=int, default=0, help="loads at a time (0: one)")
    add("--saved_model_tags", default="serve", help="meta-graph tags, comma-separated")
    _flag(
        parser,
        "allow_version_labels_for_unavailable_models",
        False,
        "new labels may point to versions that are not available",
    )


def _add_features(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _flag(parser, "enable_batching", False, "join requests into batches")
    add("--batching_parameters_file", default="", help="text BatchingParameters")
    _flag(
        parser,
        "enable_per_model_batching_parameters",
        False,
        "read batching_params.pbtxt of each version",
    )
    _flag(parser, "enable_model_warmup", True, "replay warm-up records before serving")
    add("--num_request_iterations_for_warmup", type=int, default=0, help="used if above 0")
    add("--monitoring_config_file", default="", help="text MonitoringConfig")
    add("--tensorflow_session_parallelism", type=int, default=0, help="of both pools")
    add("--tensorflow_intra_op_parallelism", type=int, default=0, help="inside one op (0: one)")
    add("--tensorflow_inter_op_parallelism", type=int, default=0, help="across ops (0: one a core)")
    add("--tensorflow_session_config_file", default="", help="text ConfigProto")
    _flag(parser, "enable_grpc_healthcheck_service", False, "serve grpc.health.v1.Health")
    _flag(parser, "enable_signature_method_name_check", False, "check of Classify and Regress")
    _flag(parser, "enable_serialization_as_tensor_content", False, "outputs as tensor_content")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    defaults = ServerOptions()
    add("--max_requests", type=int, default=defaults.max_requests, help="waiting or running")
    add("--max_request_bytes", type=int, default=defaults.max_request_bytes, help="of one request")
    add("--max_held_bytes", type=int, default=defaults.max_held_bytes, help="of all requests")
    add(
        "--request_read_seconds",
        type=float,
        default=defaults.request_read_seconds,
        help="time a REST client has to send a request",
    )
    add(
        "--drain_seconds",
        type=float,
        default=defaults.drain_seconds,
        help="time requests in flight get after SIGTERM",
    )


def version_text() -> str:
    """What `--version` prints."""
    try:
        release = metadata.version("ctr")
    except metadata.PackageNotFoundError:
        release = "unreleased"
    return (
        f"TensorFlow ModelServer: embedded stand-in, ctr {release}\n"
        f"TensorFlow Library: {tf.__version__}"
    )


def parse(argv: Sequence[str], prog: str = "python -m serving.embedded") -> ServerOptions | None:
    """Options of a command line; None after `--version`, which it prints.

    Unknown flags print the usage and are otherwise ignored, as in TensorFlow Serving.

    Raises:
        ServerConfigError: a flag or file that makes a start impossible.
        SystemExit: after `--help`, or for a value that is not of the flag's type.
    """
    parser = make_parser(prog)
    flags, unknown = parser.parse_known_args(argv)
    if flags.version:
        print(version_text())
        return None
    if unknown:
        print(f"unknown flags: {' '.join(unknown)}", file=sys.stderr)
        parser.print_usage(sys.stderr)
    for name in _REFUSED:
        if getattr(flags, name) is not None:
            raise ServerConfigError(f"--{name} is not supported by the embedded server")
    return _options(flags)


def _options(flags: argparse.Namespace) -> ServerOptions:
    rest_port = flags.rest_api_port
    if rest_port > 0 and rest_port == flags.port:
        print("--rest_api_port equals --port: REST is not served", file=sys.stderr)
        rest_port = 0
    if flags.port == 0 and not flags.grpc_socket_path:
        raise ServerConfigError("--port is 0 (no gRPC port), so --grpc_socket_path must be set")
    config_file = Path(flags.model_config_file) if flags.model_config_file else None
    return ServerOptions(
        models=_models(flags),
        host=flags.bind_address,
        port=_listening(flags.port),
        rest_port=_listening(rest_port),
        grpc_socket_path=flags.grpc_socket_path,
        model_config_file=config_file,
        model_config_poll_seconds=flags.model_config_file_poll_wait_seconds,
        file_system_poll_seconds=flags.file_system_poll_wait_seconds,
        max_load_retries=flags.max_num_load_retries,
        load_retry_seconds=flags.load_retry_interval_micros / 1e6,
        load_threads=max(1, flags.num_load_threads),
        labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        batching=_batching(flags),
        per_model_batching=flags.enable_per_model_batching_parameters,
        warmup=flags.enable_model_warmup,
        warmup_iterations=max(1, flags.num_request_iterations_for_warmup),
        monitoring=_monitoring(flags),
        ssl=read_ssl_config(flags.ssl_config_file) if flags.ssl_config_file else None,
        session=_session(flags),
        tags=tuple(flags.saved_model_tags.split(",")),
        grpc_arguments=_channel_arguments(flags.grpc_channel_arguments),
        health_service=flags.enable_grpc_healthcheck_service,
        output_as_content=flags.enable_serialization_as_tensor_content,
        method_name_check=flags.enable_signature_method_name_check,
        rest_timeout_seconds=flags.rest_api_timeout_in_ms / 1e3,
        rest_cors=flags.rest_api_enable_cors_support,
        threads=max(flags.grpc_max_threads, flags.rest_api_num_threads) or DEFAULT_THREADS,
        max_requests=flags.max_requests,
        max_request_bytes=flags.max_request_bytes,
        max_held_bytes=flags.max_held_bytes,
        request_read_seconds=flags.request_read_seconds,
        drain_seconds=flags.drain_seconds,
    )


def _listening(flag: int) -> int | None:
    """A port flag as ServerOptions has it: 0 a free port, None no port."""
    return {_FREE_PORT: 0, 0: None}.get(flag, flag)


def _models(flags: argparse.Namespace) -> ModelServerConfig:
    if flags.model_config_file:
        return read_models_config(flags.model_config_file)
    if not flags.model_base_path:
        raise ServerConfigError("Both model_base_path and model_config_file are empty!")
    return single_model_config(flags.model_name, flags.model_base_path)


def _batching(flags: argparse.Namespace) -> BatchingParameters | None:
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise ServerConfigError(
                "--batching_parameters_file is set without setting --enable_batching to true."
            )
        return None
    if flags.batching_parameters_file:
        return read_batching_parameters(flags.batching_parameters_file)
    return BatchingParameters()


def _monitoring(flags: argparse.Namespace) -> MonitoringConfig:
    if flags.monitoring_config_file:
        return read_monitoring_config(flags.monitoring_config_file)
    return MonitoringConfig()


def _session(flags: argparse.Namespace) -> config_pb2.ConfigProto:
    """Session options, with one thread inside an op unless told otherwise.

    The ops of a scoring graph are too small to be cut up; its branches (the parts of a request's
    rows, `serving/row_parts.py`) run beside each other. Of four settings measured that is the
    fastest (`tests/benchmarks/results/serving_threads.md`). Only the program says so, not the
    `Server` class: TensorFlow sizes the pool inside ops once per process, by the first session or
    eager op, and a notebook's training would be left with one thread.
    """
    both = flags.tensorflow_session_parallelism
    intra, inter = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
    if both and intra and inter:
        raise ServerConfigError(
            "--tensorflow_session_parallelism cannot be set together with both of "
            "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
        )
    config = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        config = read_session_config(flags.tensorflow_session_config_file)
    config.intra_op_parallelism_threads = intra or both or config.intra_op_parallelism_threads or 1
    config.inter_op_parallelism_threads = inter or both or config.inter_op_parallelism_threads
    return config


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ServerConfigError(
                f"--grpc_channel_arguments: expected key=value,key=value; got {part!r}"
            )
        number = value.removeprefix("-").isdigit()
        arguments.append((key, int(value) if number else value))
    return tuple(arguments)
