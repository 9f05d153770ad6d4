"""The files and flags of one tensorflow_model_server."""

from google.protobuf import text_format

from serving.deploy.settings import DeploySettings
from serving.release import configure
from serving.server_config import DEFAULT_METRICS_PATH, single_model_config

CONFIG_FOLDER = "/config"
MODELS_FOLDER = "/models"
GRPC_PORT, REST_PORT = 8500, 8501

# Flags of tensorflow_model_server that a deployment may use. The server prints its usage and goes
# on when it meets any other, so a misspelt flag would be lost.
FLAGS = frozenset(
    {
        "port",
        "rest_api_port",
        "rest_api_num_threads",
        "rest_api_timeout_in_ms",
        "model_config_file",
        "model_config_file_poll_wait_seconds",
        "file_system_poll_wait_seconds",
        "max_num_load_retries",
        "load_retry_interval_micros",
        "num_load_threads",
        "num_unload_threads",
        "allow_version_labels_for_unavailable_models",
        "enable_batching",
        "batching_parameters_file",
        "enable_per_model_batching_parameters",
        "enable_model_warmup",
        "num_request_iterations_for_warmup",
        "monitoring_config_file",
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
        "tensorflow_session_config_file",
        "ssl_config_file",
        "grpc_channel_arguments",
        "grpc_max_threads",
        "enable_grpc_healthcheck_service",
        "enable_serialization_as_tensor_content",
    }
)


def server_files(settings: DeploySettings) -> dict[str, str]:
    """File name -> text, as mounted in CONFIG_FOLDER."""
    return {
        "models.config": _models_config(settings),
        "batching.config": _batching_config(settings),
        "monitoring.config": (
            f'prometheus_config {{\n  enable: true\n  path: "{DEFAULT_METRICS_PATH}"\n}}\n'
        ),
    }


def server_flags(settings: DeploySettings) -> list[str]:
    """Command-line flags that use the files."""
    return [
        f"--port={GRPC_PORT}",
        f"--rest_api_port={REST_PORT}",
        f"--model_config_file={CONFIG_FOLDER}/models.config",
        # The release commands rewrite the file; labels of a version that is still loading would
        # otherwise be refused, at start-up for good.
        "--model_config_file_poll_wait_seconds=10",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={CONFIG_FOLDER}/batching.config",
        f"--monitoring_config_file={CONFIG_FOLDER}/monitoring.config",
        "--max_num_load_retries=3",
        "--load_retry_interval_micros=5000000",
        # One thread inside an op: a scoring graph's ops are small, and its row parts run beside
        # each other (serving/row_parts.py).
        "--tensorflow_intra_op_parallelism=1",
        f"--tensorflow_inter_op_parallelism={settings.cpu}",
    ]


def _models_config(settings: DeploySettings) -> str:
    name, release = settings.model, settings.release
    config = single_model_config(name, f"{MODELS_FOLDER}/{name}")
    return text_format.MessageToString(configure(config, name, release.versions, release.labels))


def _batching_config(settings: DeploySettings) -> str:
    numbers = settings.batching.model_dump()
    lines = [f"{name} {{ value: {value} }}" for name, value in numbers.items()]
    # Requests with different numbers of candidates share a batch only when they may be padded.
    return "\n".join([*lines, "pad_variable_length_inputs: true"]) + "\n"
