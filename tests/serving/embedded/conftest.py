"""SavedModels and one server that most tests share."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from serving.embedded import Server, ServerOptions
from serving.embedded.predict import plan
from serving.server_config import ModelServerConfig, MonitoringConfig
from tests.serving.embedded.calls import Calls, predict_request
from tests.serving.embedded.savedmodels import Everything, save, save_half_plus


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """Base path of the model with one signature per behaviour."""
    base = tmp_path_factory.mktemp("everything")
    save(Everything(), base / "00000123")
    return base


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """Base path with versions 1 and 2 of y = x / 2 + version. Read only."""
    base = tmp_path_factory.mktemp("models") / "half"
    save_half_plus(base, 1)
    save_half_plus(base, 2)
    return base


def models_config(**models) -> ModelServerConfig:
    """Configuration of models by name: a base path, or a dict of further ModelConfig fields."""
    config = ModelServerConfig()
    for name, fields in models.items():
        if not isinstance(fields, dict):
            fields = {"base_path": str(fields)}
        config.model_config_list.config.add(
            name=name,
            model_platform="tensorflow",
            **{**fields, "base_path": str(fields["base_path"])},
        )
    return config


@pytest.fixture(scope="session")
def calls(everything, half):
    """A server of the models `all` and `half` (its two versions), with monitoring."""
    config = models_config(all=everything, half=half)
    config.model_config_list.config[1].model_version_policy.all.SetInParent()
    options = ServerOptions(models=config, monitoring=MonitoringConfig(enabled=True))
    with Server(options) as server, Calls(server) as made:
        yield made


@pytest.fixture
def gated(everything):
    """Starts servers of the model `all`; its signature `gate` waits until `open_gate`.

    Opens the gate for everyone afterwards: a test that fails must not leave a thread behind.
    """
    servers = []

    def start(**options) -> Server:
        servers.append(Server(ServerOptions(models=models_config(all=everything), **options)))
        return servers[-1].start()

    yield start
    for server in servers:
        # The version is gone as soon as the last run is through.
        with contextlib.suppress(tf.errors.CancelledError, IndexError):
            open_gate(server, times=10)
        server.stop()


def open_gate(server: Server, times: int = 1) -> None:
    """Let runs of `gate` through, past all ports and limits."""
    servable = server.manager.loaded("all")[-1]
    request = predict_request("all", "open", n=np.array([1]))
    servable.acquire()  # the last run through the gate may be what the version waits for to close
    try:
        for _ in range(times):
            servable.run(plan(servable, request))
    finally:
        servable.release()
