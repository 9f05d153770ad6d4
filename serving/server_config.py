"""Readers of TensorFlow Serving's text-format files: models, batching, monitoring, TLS.

`models.config` uses the messages of the package tensorflow-serving-api. The messages of the other
three files are not in it; they are described here, field names as TensorFlow Serving's.
"""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

ModelServerConfig = model_server_config_pb2.ModelServerConfig
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"
_PACKAGE = "ctr.serving_config"
_MAX_FILE_BYTES = 16 * 2**20


class ServerConfigError(ValueError):
    """A configuration file that cannot be read or asks for something impossible."""


@dataclass(frozen=True)
class BatchingParameters:
    """`--batching_parameters_file`. Sizes in rows, times in microseconds.

    `num_batch_threads` is None for one per CPU, `max_execution_batch_size` None for
    `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int | None = None
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def execution_limit(self) -> int:
        """Rows that one run of the graph may have."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size


@dataclass(frozen=True)
class MonitoringConfig:
    """`--monitoring_config_file`: whether and where Prometheus may scrape."""

    enabled: bool = False
    path: str = DEFAULT_METRICS_PATH


@dataclass(frozen=True)
class SslConfig:
    """`--ssl_config_file`: PEM contents of the gRPC port; `client_verify` asks for mutual TLS."""

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False


def _text_messages() -> dict[str, type[Message]]:
    """Messages made at run time, only so that text_format can parse into them."""
    number, text, flag = "google.protobuf.Int64Value", "google.protobuf.StringValue", "bool"
    layout = {
        "BatchingParameters": {
            "max_batch_size": number,
            "batch_timeout_micros": number,
            "max_enqueued_batches": number,
            "num_batch_threads": number,
            "thread_pool_name": text,
            "allowed_batch_sizes": "repeated int64",
            "pad_variable_length_inputs": flag,
            "enable_large_batch_splitting": "google.protobuf.BoolValue",
            "max_execution_batch_size": number,
        },
        "PrometheusConfig": {"enable": flag, "path": "string"},
        "MonitoringConfig": {"prometheus_config": f"{_PACKAGE}.PrometheusConfig"},
        "SSLConfig": {
            "server_key": "string",
            "server_cert": "string",
            "custom_ca": "string",
            "client_verify": flag,
        },
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="ctr/serving_config.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for message_name, fields in layout.items():
        message = file.message_type.add(name=message_name)
        for position, (name, kind) in enumerate(fields.items(), start=1):
            _add_field(message, name, kind, position)
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pool.Default().FindFileByName("google/protobuf/wrappers.proto")
    pool.AddSerializedFile(wrappers.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in layout
    }


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, kind: str, number: int) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    repeated = kind.startswith("repeated ")
    scalar = {
        "int64": types.TYPE_INT64,
        "bool": types.TYPE_BOOL,
        "string": types.TYPE_STRING,
    }.get(kind.removeprefix("repeated "))
    field = message.field.add(
        name=name,
        number=number,
        label=types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL,
        type=types.TYPE_MESSAGE if scalar is None else scalar,
    )
    if scalar is None:
        field.type_name = f".{kind}"


_MESSAGES = _text_messages()


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise ServerConfigError(f"{path}: {size} bytes, a config file may have 16 MiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ServerConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ServerConfigError(f"{path}: is not UTF-8 text: {error.reason}") from error


def _parse(path: Path, message: Message, type_name: str) -> Message:
    try:
        return text_format.Parse(_read_text(path), message)
    except text_format.ParseError as error:
        raise ServerConfigError(
            f"{path}: Error parsing text-format {type_name}: {error}"
        ) from error


def read_models_config(path: str | Path) -> ModelServerConfig:
    """Parse a `--model_config_file`; its meaning is checked where it is applied.

    Raises:
        ServerConfigError: unreadable file or text that does not parse.
    """
    name = "tensorflow.serving.ModelServerConfig"
    return _parse(Path(path), ModelServerConfig(), name)


def single_model_config(name: str, base_path: str) -> ModelServerConfig:
    """The configuration that `--model_name` and `--model_base_path` stand for."""
    config = ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    return config


def read_batching_parameters(path: str | Path) -> BatchingParameters:
    """Parse a `--batching_parameters_file`.

    Raises:
        ServerConfigError: unreadable, unparsable, or values out of range.
    """
    message = _parse(
        Path(path), _MESSAGES["BatchingParameters"](), "tensorflow.serving.BatchingParameters"
    )
    values: dict[str, object] = {}
    for descriptor, value in message.ListFields():
        if descriptor.name == "allowed_batch_sizes":
            values[descriptor.name] = tuple(value)
        else:
            values[descriptor.name] = getattr(value, "value", value)
    parameters = BatchingParameters(**values)
    _check_batching(parameters, path)
    return parameters


def _check_batching(parameters: BatchingParameters, path: str | Path) -> None:
    limits = {
        "max_batch_size": 1,
        "batch_timeout_micros": 0,
        "max_enqueued_batches": 1,
        "num_batch_threads": 1,
        "max_execution_batch_size": 1,
    }
    for name, low in limits.items():
        value = getattr(parameters, name)
        if value is not None and value < low:
            raise ServerConfigError(f"{path}: {name} must be at least {low}; was {value}")


def read_monitoring_config(path: str | Path) -> MonitoringConfig:
    """Parse a `--monitoring_config_file`.

    Raises:
        ServerConfigError: unreadable, unparsable, or a path that does not start with `/`.
    """
    message = _parse(
        Path(path), _MESSAGES["MonitoringConfig"](), "tensorflow.serving.MonitoringConfig"
    )
    prometheus = message.prometheus_config
    metrics_path = prometheus.path or DEFAULT_METRICS_PATH
    if not metrics_path.startswith("/"):
        raise ServerConfigError(f"{path}: path must start with '/'; was {metrics_path!r}")
    return MonitoringConfig(enabled=prometheus.enable, path=metrics_path)


def read_ssl_config(path: str | Path) -> SslConfig:
    """Parse an `--ssl_config_file`.

    Raises:
        ServerConfigError: unreadable, unparsable, or no key, certificate or (for mutual TLS) CA.
    """
    message = _parse(Path(path), _MESSAGES["SSLConfig"](), "tensorflow.serving.SSLConfig")
    if not message.server_key or not message.server_cert:
        raise ServerConfigError(f"{path}: server_key and server_cert must hold PEM contents")
    if message.client_verify and not message.custom_ca:
        raise ServerConfigError(f"{path}: client_verify needs custom_ca to verify clients with")
    return SslConfig(
        message.server_key, message.server_cert, message.custom_ca, message.client_verify
    )


def read_session_config(path: str | Path) -> config_pb2.ConfigProto:
    """Parse a `--tensorflow_session_config_file`.

    Raises:
        ServerConfigError: unreadable file or text that does not parse.
    """
    return _parse(Path(path), config_pb2.ConfigProto(), "tensorflow.ConfigProto")
