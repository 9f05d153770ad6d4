"""TensorFlow Serving's text-format files."""

import pytest

from serving.server_config import (
    BatchingParameters,
    ServerConfigError,
    read_batching_parameters,
    read_models_config,
    read_monitoring_config,
    read_session_config,
    read_ssl_config,
)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "file.config"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_models_config(file):
    config = read_models_config(
        file(
            """
            model_config_list {
              config {
                name: "ctr"                      # unique
                base_path: "/models/ctr"
                model_platform: "tensorflow"
                model_version_policy { specific { versions: 42 versions: 43 } }
                version_labels { key: "stable" value: 42 }
                version_labels { key: "canary" value: 43 }
                logging_config { sampling_config { sampling_rate: 0.1 } }
              }
            }
            """
        )
    )
    entry = config.model_config_list.config[0]
    assert entry.name == "ctr"
    assert list(entry.model_version_policy.specific.versions) == [42, 43]
    assert dict(entry.version_labels) == {"stable": 42, "canary": 43}


def test_batching_parameters(file):
    parameters = read_batching_parameters(
        file(
            """
            max_batch_size { value: 128 }            # rows
            batch_timeout_micros { value: 1000 }
            max_enqueued_batches { value: 100 }
            num_batch_threads { value: 8 }
            thread_pool_name { value: "batch" }
            allowed_batch_sizes: 32  allowed_batch_sizes: 128
            pad_variable_length_inputs: true
            enable_large_batch_splitting { value: true }
            max_execution_batch_size { value: 128 }
            """
        )
    )
    assert parameters == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=1000,
        max_enqueued_batches=100,
        num_batch_threads=8,
        thread_pool_name="batch",
        allowed_batch_sizes=(32, 128),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=128,
    )
    assert read_batching_parameters(file("")) == BatchingParameters()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_batch_size: 3", "Error parsing text-format tensorflow.serving.BatchingParameters"),
        ("no_such_field: 3", 'no field named "no_such_field"'),
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be at least 0; was -1"),
    ],
)
def test_bad_batching_parameters(file, text, expected):
    with pytest.raises(ServerConfigError) as caught:
        read_batching_parameters(file(text))
    assert expected in str(caught.value)
    assert "file.config" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_monitoring(file):
    assert not read_monitoring_config(file("")).enabled
    config = read_monitoring_config(file("prometheus_config { enable: true }"))
    assert (config.enabled, config.path) == (True, "/monitoring/prometheus/metrics")
    text = 'prometheus_config { enable: true path: "/metrics" }'
    assert read_monitoring_config(file(text)).path == "/metrics"
    with pytest.raises(ServerConfigError, match="path must start with '/'"):
        read_monitoring_config(file('prometheus_config { enable: true path: "metrics" }'))


def test_ssl(file):
    config = read_ssl_config(
        file('server_key: "K\\nEY" server_cert: "C" custom_ca: "A" client_verify: true')
    )
    assert (config.server_key, config.server_cert, config.custom_ca) == ("K\nEY", "C", "A")
    assert config.client_verify
    with pytest.raises(ServerConfigError, match="server_key and server_cert must hold PEM"):
        read_ssl_config(file('server_key: "K"'))
    with pytest.raises(ServerConfigError, match="client_verify needs custom_ca"):
        read_ssl_config(file('server_key: "K" server_cert: "C" client_verify: true'))


def test_session_config(file):
    assert read_session_config(file("intra_op_parallelism_threads: 3")) is not None
    with pytest.raises(ServerConfigError, match=r"tensorflow\.ConfigProto"):
        read_session_config(file("nonsense"))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"model_config_list {"])
def test_unreadable(file, content):
    with pytest.raises(ServerConfigError, match=r"file\.config"):
        read_models_config(file(content))


def test_missing_file(tmp_path):
    with pytest.raises(ServerConfigError, match="cannot be read: No such file"):
        read_models_config(tmp_path / "absent")
    with pytest.raises(ServerConfigError, match="cannot be read"):
        read_models_config(tmp_path)
