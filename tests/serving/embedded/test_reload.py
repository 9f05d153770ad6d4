"""Protocol sections 7.6, 8.4 and 8.5: configurations, their reload, and labels."""

import shutil

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from serving.embedded import Server, ServerOptions
from serving.embedded.errors import ServingError
from serving.embedded.model_config import read_entries
from serving.server_config import ModelServerConfig
from tests.serving.embedded.calls import Calls, eventually, predict_request, refused
from tests.serving.embedded.conftest import models_config
from tests.serving.embedded.savedmodels import save_half_plus

FAST = {"file_system_poll_seconds": 0.05, "max_load_retries": 0}


def with_versions(base, *versions, **labels) -> ModelServerConfig:
    config = models_config(half=base)
    entry = config.model_config_list.config[0]
    entry.model_version_policy.specific.versions.extend(versions)
    for label, version in labels.items():
        entry.version_labels[label] = version
    return config


def labelled(calls, label) -> float:
    request = predict_request("half", x=np.zeros(1, np.float32))
    request.model_spec.version_label = label
    return float(calls.predict(request)["y"][0])


class TestValidation:
    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"base_path": "relative/x"}, "Expected model m to have an absolute path or URI; got "),
            ({"base_path": "/models/../etc"}, "must not climb directories with '..'"),
            ({"base_path": "s3://bucket/x"}, "not on a local file system"),
            ({"base_path": "/x", "model_platform": ""}, "Illegal setting neither"),
            ({"base_path": "/x", "model_platform": "onnx"}, "no adapter for model_platform onnx"),
            ({"base_path": "/x", "model_type": 1}, "Illegal setting both"),
        ],
    )
    def test_models(self, fields, text):
        config = ModelServerConfig()
        config.model_config_list.config.add(
            **{"name": "m", "model_platform": "tensorflow", **fields}
        )
        with pytest.raises(ServingError) as caught:
            read_entries(config)
        assert text in caught.value.message
        assert caught.value.code == "INVALID_ARGUMENT"

    def test_repeated_name(self):
        config = models_config(m="/x")
        config.model_config_list.config.append(config.model_config_list.config[0])
        with pytest.raises(ServingError, match="Illegal to list model m multiple times"):
            read_entries(config)

    def test_deprecated_type_is_the_platform(self):
        config = ModelServerConfig()
        config.model_config_list.config.add(name="m", base_path="/x", model_type=1)
        assert read_entries(config)["m"].platform == "tensorflow"


class TestReload:
    def test_models_come_and_go(self, half, everything):
        with (
            Server(ServerOptions(models=models_config(half=half), **FAST)) as server,
            Calls(server) as calls,
        ):
            response = calls.reload(models_config(all=everything))
            assert response.status.error_code == 0
            # The call returned, so the new model is there; the old one goes.
            assert calls.post("all:predict", {"inputs": 1.0}).status_code == 200
            eventually(lambda: calls.states("half") == {2: "END"})
            calls.reload(models_config(half=half))
            assert calls.states("half") == {2: "AVAILABLE"}

    def test_refused_configurations_keep_the_old_state(self, half):
        with (
            Server(ServerOptions(models=models_config(half=half), **FAST)) as server,
            Calls(server) as calls,
        ):
            assert refused(lambda: calls.reload(models_config(half="relative")))[0] == (
                "INVALID_ARGUMENT"
            )
            empty = model_management_pb2.ReloadConfigRequest()
            reload = calls.models.HandleReloadConfigRequest
            assert refused(lambda: reload(empty, timeout=30))[0] == "INVALID_ARGUMENT"
            custom = ModelServerConfig()
            custom.custom_model_config.SetInParent()
            assert refused(lambda: calls.reload(custom))[0] == "INVALID_ARGUMENT"
            assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}

    def test_new_model_that_fails(self, half, tmp_path):
        (tmp_path / "broken" / "1").mkdir(parents=True)
        with (
            Server(ServerOptions(models=models_config(half=half), **FAST)) as server,
            Calls(server) as calls,
        ):
            config = models_config(half=half, broken=tmp_path / "broken")
            code, text = refused(lambda: calls.reload(config))
            assert code == "UNKNOWN"
            assert text.startswith("1 model(s) did not become available: {")
            assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}

    def test_a_reload_nobody_waits_for_any_more(self, half, tmp_path):
        (tmp_path / "empty").mkdir()
        with (
            Server(ServerOptions(models=models_config(half=half), **FAST)) as server,
            Calls(server) as calls,
        ):
            request = model_management_pb2.ReloadConfigRequest(
                config=models_config(half=half, empty=tmp_path / "empty")
            )
            with pytest.raises(grpc.RpcError) as caught:
                calls.models.HandleReloadConfigRequest(request, timeout=0.3)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}

    def test_policy_change_of_a_known_model(self, half):
        with (
            Server(ServerOptions(models=models_config(half=half), **FAST)) as server,
            Calls(server) as calls,
        ):
            calls.reload(with_versions(half, 1))
            eventually(lambda: calls.states("half") == {2: "END", 1: "AVAILABLE"})
            calls.reload(with_versions(half, 1, 2))
            eventually(lambda: calls.states("half") == {2: "AVAILABLE", 1: "AVAILABLE"})

    def test_config_file_is_polled(self, half, everything, tmp_path):
        path = tmp_path / "models.config"
        path.write_text(str(models_config(half=half)))
        options = ServerOptions(
            models=models_config(half=half),
            model_config_file=path,
            model_config_poll_seconds=0.05,
            **FAST,
        )
        with Server(options) as server, Calls(server) as calls:
            path.write_text("does not parse {")
            path.write_text(str(models_config(half=half, all=everything)))
            eventually(lambda: calls.states("all") == {123: "AVAILABLE"})
            assert calls.states("half") == {2: "AVAILABLE"}


class TestLabels:
    def test_canary_sequence(self, half, tmp_path):
        base = tmp_path / "half"
        shutil.copytree(half / "1", base / "1")
        config = with_versions(base, 1)
        with Server(ServerOptions(models=config, **FAST)) as server, Calls(server) as calls:
            calls.reload(with_versions(base, 1, stable=1))
            assert labelled(calls, "stable") == 1
            assert calls.post("half/labels/stable:predict", {"inputs": 0.0}).json() == {
                "outputs": 1.0
            }
            metadata = calls.http.get("/v1/models/half/labels/stable/metadata").json()
            assert metadata["model_spec"]["version"] == "1"
            save_half_plus(base, 2)
            calls.reload(with_versions(base, 1, 2, stable=1))
            eventually(lambda: calls.states("half").get(2) == "AVAILABLE")
            calls.reload(with_versions(base, 1, 2, stable=1, canary=2))
            assert (labelled(calls, "stable"), labelled(calls, "canary")) == (1, 2)
            calls.reload(with_versions(base, 2, stable=2))
            assert labelled(calls, "stable") == 2
            eventually(lambda: calls.states("half")[1] == "END")
            assert refused(lambda: labelled(calls, "canary")) == (
                "INVALID_ARGUMENT",
                "Unrecognized servable version label: canary",
            )

    def test_label_of_a_version_that_is_not_available(self, half):
        with (
            Server(ServerOptions(models=with_versions(half, 1), **FAST)) as server,
            Calls(server) as calls,
        ):
            assert refused(lambda: calls.reload(with_versions(half, 1, canary=9))) == (
                "FAILED_PRECONDITION",
                "Request to assign label to version 9 of model half, which is not currently "
                "available for inference",
            )

    def test_label_in_the_start_up_config(self, half):
        config = with_versions(half, 1, stable=1)
        with pytest.raises(ServingError, match="not currently available for inference"):
            Server(ServerOptions(models=config, **FAST)).start()
        options = ServerOptions(models=config, labels_for_unavailable=True, **FAST)
        with Server(options) as server, Calls(server) as calls:
            assert labelled(calls, "stable") == 1
            # An existing label still moves only to what is available.
            code, _ = refused(lambda: calls.reload(with_versions(half, 1, stable=9)))
            assert code == "FAILED_PRECONDITION"
            calls.reload(with_versions(half, 1, stable=1, canary=9))
            assert refused(lambda: labelled(calls, "canary")) == (
                "NOT_FOUND",
                "Servable not found for request: Specific(half, 9)",
            )
