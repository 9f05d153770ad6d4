import shutil

import numpy as np
import pytest

from serving.client import Client
from serving.embedded import Server, ServerOptions
from serving.release import (
    ReleaseError,
    ReleaseState,
    promote,
    read_state,
    rollback,
    start_canary,
    write_models_config,
)
from serving.server_config import ModelServerConfig, read_models_config

OTHER = {"name": "other", "base_path": "/models/other", "model_platform": "tensorflow"}


@pytest.fixture
def config_path(tmp_path):
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name="ctr", base_path=str(tmp_path / "ctr"), model_platform="tensorflow"
    )
    write_models_config(tmp_path / "models.config", config)
    return tmp_path / "models.config"


def test_the_way_of_a_release():
    state = ReleaseState().with_canary(1)
    assert state == ReleaseState(stable=1)
    state = state.with_canary(2)
    assert state.labels == {"stable": 1, "canary": 2}
    state = state.promoted()
    assert state == ReleaseState(stable=2, previous=1)
    assert state.with_canary(3).rolled_back() == state
    assert state.rolled_back() == ReleaseState(stable=1)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda: ReleaseState(stable=1).with_canary(1), "version 1 is the stable one already"),
        (lambda: ReleaseState(stable=1).promoted(), "no canary to promote"),
        (lambda: ReleaseState(stable=1).rolled_back(), "neither a canary .* nor a previous"),
    ],
)
def test_steps_that_do_not_apply(step, message):
    with pytest.raises(ReleaseError, match=message):
        step()


def test_without_servers_only_the_file_changes(config_path):
    config = read_models_config(config_path)
    config.model_config_list.config.add(**OTHER)
    write_models_config(config_path, config)
    config_path.chmod(0o640)

    start_canary(config_path, "ctr", 1)
    start_canary(config_path, "ctr", 2)
    assert promote(config_path, "ctr") == read_state(config_path, "ctr")
    entry, other = read_models_config(config_path).model_config_list.config
    assert list(entry.model_version_policy.specific.versions) == [1, 2]
    assert dict(entry.version_labels) == {"stable": 2, "previous": 1}
    assert other.name == "other", "another model's entry must stay"
    assert config_path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in config_path.parent.iterdir()] == ["models.config"]
    with pytest.raises(ReleaseError, match="has no model 'nobody', it has ctr, other"):
        promote(config_path, "nobody")


def test_a_running_server_is_led_through_a_release(config_path, repository, tmp_path):
    for version in ("1", "2"):
        shutil.copytree(repository / "ctr" / "1", tmp_path / "ctr" / version)
    options = ServerOptions(
        models=read_models_config(config_path), rest_port=None, max_load_retries=0
    )
    with Server(options) as server, Client(f"127.0.0.1:{server.grpc_port}", "ctr") as client:
        start_canary(config_path, "ctr", 1, [client])
        start_canary(config_path, "ctr", 2, [client])
        stable, canary = (
            Client(f"127.0.0.1:{server.grpc_port}", "ctr", label=label)
            for label in ("stable", "canary")
        )
        rows = {"user": ["u1"], "item": ["i1"]}
        assert (stable.predict(rows).version, canary.predict(rows).version) == (1, 2)

        promote(config_path, "ctr", [client])
        assert stable.predict(rows).version == 2
        before = config_path.read_text()
        (tmp_path / "ctr" / "3").mkdir()  # a version that cannot load

        with pytest.raises(ReleaseError, match="not changed, a server refused: NOT_FOUND"):
            start_canary(config_path, "ctr", 3, [client])
        assert config_path.read_text() == before
        assert stable.predict(rows).version == 2

        assert rollback(config_path, "ctr", [client]) == ReleaseState(stable=1)
        answer = stable.predict(rows)
        assert answer.version == 1
        assert np.isfinite(answer["logit"]).all()
        assert [s.version for s in client.status() if s.available] == [1]
        for opened in (stable, canary):
            opened.close()
