"""Protocol sections 8.1 to 8.3: discovery, policies, transitions, failures, start-up."""

import shutil
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.embedded import Server, ServerOptions, ServingError
from serving.embedded.discovery import VersionPolicy, list_versions, wanted_versions
from serving.embedded.states import StateMonitor
from serving.embedded.version_manager import VersionManager
from tests.serving.embedded.calls import Calls, eventually, predict_request
from tests.serving.embedded.conftest import models_config, open_gate
from tests.serving.embedded.savedmodels import save_half_plus

POLL = 0.05


@pytest.fixture
def base(half, tmp_path):
    """A copy of the two versions of `half` that a test may change."""
    shutil.copytree(half, tmp_path / "half")
    return tmp_path / "half"


def server_of(base: Path, **options) -> Server:
    defaults = {"file_system_poll_seconds": POLL, "max_load_retries": 0}
    return Server(ServerOptions(models=models_config(half=base), **{**defaults, **options}))


def answer(calls) -> float:
    """What a request for 0 is answered: the number of the version that serves."""
    return float(calls.predict(predict_request("half", x=np.zeros(1, np.float32)))["y"][0])


class TestDiscovery:
    def test_only_names_that_are_int64(self, tmp_path):
        names = ["1", "00000123", "9223372036854775807", "9223372036854775808", "-1", "+2", "x"]
        for name in [*names, "1.5", "4tmp", ".7", "٣"]:
            (tmp_path / name).mkdir()
        (tmp_path / "77").write_text("a file: only the name counts")
        assert set(list_versions(tmp_path)) == {1, 123, 2**63 - 1, 77}
        assert list_versions(tmp_path)[123].name == "00000123"

    def test_two_names_of_one_number(self, tmp_path, caplog):
        for name in ("7", "007"):
            (tmp_path / name).mkdir()
        assert len(list_versions(tmp_path)) == 1
        assert "Duplicate version 7" in caplog.text

    def test_missing_base_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="Could not find base path"):
            list_versions(tmp_path / "absent")

    def test_policies(self, caplog):
        found = {version: Path(str(version)) for version in (1, 2, 5)}
        assert set(wanted_versions(found, VersionPolicy())) == {5}
        policy = VersionPolicy()
        policy.latest.num_versions = 2
        assert set(wanted_versions(found, policy)) == {2, 5}
        policy.latest.num_versions = 0
        assert set(wanted_versions(found, policy)) == {5}
        policy.all.SetInParent()
        assert set(wanted_versions(found, policy)) == {1, 2, 5}
        policy.specific.versions.extend([1, 9])
        assert set(wanted_versions(found, policy)) == {1}
        assert "Version 9" in caplog.text


class TestTransitions:
    def test_new_version_replaces_the_old(self, base):
        with server_of(base) as server, Calls(server) as calls:
            assert answer(calls) == 2
            save_half_plus(base, 10)
            eventually(lambda: calls.states("half") == {10: "AVAILABLE", 2: "END"})
            assert answer(calls) == 10

    def test_broken_version_never_takes_down_the_one_being_served(self, base):
        with server_of(base) as server, Calls(server) as calls:
            (base / "3").mkdir()
            eventually(lambda: calls.states("half").get(3) == "END")
            assert calls.states("half") == {3: "END", 2: "AVAILABLE"}
            assert answer(calls) == 2
            status = calls.http.get("/v1/models/half").json()["model_version_status"][0]
            assert status["status"] == {
                "error_code": "NOT_FOUND",
                "error_message": "Could not find SavedModel .pb or .pbtxt at supplied export "
                f"directory path: {base / '3'}",
            }
            # The broken one is still the latest; a good one above it is served as usual.
            save_half_plus(base, 4)
            eventually(lambda: calls.states("half").get(4) == "AVAILABLE")
            assert answer(calls) == 4

    @pytest.mark.parametrize("damage", ["truncate", "garbage", "no variables", "no meta graph"])
    def test_damaged_files(self, base, damage):
        with server_of(base) as server, Calls(server) as calls:
            aside = base.parent / "aside"
            shutil.copytree(base / "2", aside)
            if damage == "truncate":
                path = aside / "saved_model.pb"
                path.write_bytes(path.read_bytes()[:500])
            elif damage == "garbage":
                (aside / "saved_model.pb").write_bytes(b"\xff" * 1000)
            elif damage == "no variables":
                shutil.rmtree(aside / "variables")
            else:
                (aside / "saved_model.pb").write_bytes(b"")
            aside.rename(base / "3")
            eventually(lambda: calls.states("half").get(3) == "END")
            status = calls.http.get("/v1/models/half").json()["model_version_status"][0]
            assert status["status"]["error_code"] != "OK"
            assert "Traceback" not in status["status"]["error_message"]
            assert answer(calls) == 2

    def test_failed_version_is_retried_and_may_recover(self, base):
        options = {"max_load_retries": 1000, "load_retry_seconds": 0.02}
        with server_of(base, **options) as server, Calls(server) as calls:
            (base / "3").mkdir()
            eventually(lambda: calls.states("half").get(3) == "LOADING")
            time.sleep(0.1)  # some failed tries
            assert calls.states("half") == {3: "LOADING", 2: "AVAILABLE"}
            shutil.copytree(base / "1", base / "3", dirs_exist_ok=True)
            eventually(lambda: calls.states("half") == {3: "AVAILABLE", 2: "END"})
            assert answer(calls) == 1  # the bytes of version 1

    def test_failed_version_comes_back_only_after_disappearing(self, base):
        with server_of(base) as server, Calls(server) as calls:
            (base / "3").mkdir()
            eventually(lambda: calls.states("half").get(3) == "END")
            shutil.copytree(base / "1", base / "3", dirs_exist_ok=True)
            time.sleep(4 * POLL)
            assert calls.states("half") == {3: "END", 2: "AVAILABLE"}
            (base / "3").rename(base / "away")
            time.sleep(6 * POLL)
            (base / "away").rename(base / "3")
            eventually(lambda: calls.states("half") == {3: "AVAILABLE", 2: "END"})

    def test_a_failed_load_leaves_nothing_in_memory(self, base):
        sessions, ever = weakref.WeakSet(), []
        make = tf.compat.v1.Session

        def tracked(*args, **kwargs):
            session = make(*args, **kwargs)
            sessions.add(session)
            ever.append(id(session))
            return session

        with server_of(base) as server, Calls(server) as calls, pytest.MonkeyPatch.context() as m:
            m.setattr("serving.embedded.engine.tf.compat.v1.Session", tracked)
            shutil.copytree(base / "1", base.parent / "aside")
            shutil.rmtree(base.parent / "aside" / "variables")
            (base.parent / "aside").rename(base / "3")
            eventually(lambda: calls.states("half").get(3) == "END")
            assert ever, "the load that fails has made a session"
            eventually(lambda: not sessions)

    def test_a_new_version_has_the_runs_of_the_last_one_compiled(self, base):
        with server_of(base) as server, Calls(server) as calls:
            answer(calls)
            save_half_plus(base, 3)
            eventually(lambda: calls.states("half").get(3) == "AVAILABLE")
            assert len(server.manager.loaded("half")[0].model.runs_made()) == 1

    def test_rollback_by_deleting_the_newest(self, base):
        with server_of(base) as server, Calls(server) as calls:
            shutil.rmtree(base / "2")
            eventually(lambda: calls.states("half") == {2: "END", 1: "AVAILABLE"})
            assert answer(calls) == 1

    def test_base_path_without_versions_unloads_and_a_missing_one_does_not(self, base):
        with server_of(base) as server, Calls(server) as calls:
            base.rename(base.parent / "gone")
            time.sleep(4 * POLL)
            assert answer(calls) == 2
            base.mkdir()
            eventually(lambda: calls.states("half") == {2: "END"})
            text = calls.error("half:predict", {"inputs": 1.0}, 404)
            assert text == "Servable not found for request: Latest(half)"

    def test_one_missing_base_path_changes_nothing_for_any_model(self, base, tmp_path):
        shutil.copytree(base, tmp_path / "other")
        config = models_config(half=base, other=tmp_path / "other")
        options = ServerOptions(models=config, file_system_poll_seconds=POLL)
        with Server(options) as server, Calls(server) as calls:
            shutil.rmtree(tmp_path / "other")
            shutil.rmtree(base / "2")
            time.sleep(4 * POLL)
            assert calls.states("half") == {2: "AVAILABLE"}

    def test_polling_once_or_never(self, base):
        with server_of(base, file_system_poll_seconds=0) as server, Calls(server) as calls:
            save_half_plus(base, 3)
            time.sleep(4 * POLL)
            assert calls.states("half") == {2: "AVAILABLE"}
        with pytest.raises(ServingError, match="Not loaded in time: half"):
            server_of(base, file_system_poll_seconds=-1).start(timeout=0.3)

    def test_in_flight_requests_finish_on_the_version_they_started_with(self, everything, tmp_path):
        base = tmp_path / "all"
        shutil.copytree(everything / "00000123", base / "1")
        config = models_config(all=base)
        options = ServerOptions(models=config, file_system_poll_seconds=POLL)
        with Server(options) as server, Calls(server) as calls:
            waits = predict_request("all", "gate", n=np.array([5]))
            call = calls.prediction.Predict.future(waits, timeout=60)
            eventually(lambda: server.admission.in_flight == 1)
            (base / "1").rename(base / "2")
            eventually(lambda: calls.states("all").get(2) == "AVAILABLE")
            assert calls.states("all")[1] == "UNLOADING"
            assert not call.done()
            open_gate(server)
            assert call.result().model_spec.version.value == 1
            eventually(lambda: calls.states("all")[1] == "END")


class TestManager:
    """The order of steps, with servables that only pretend."""

    class Pretend:
        def __init__(self):
            self.closed = False

        def acquire(self):
            pass

        def wait_until_idle(self):
            pass

        def close(self):
            self.closed = True

    @pytest.fixture
    def manager(self):
        """A manager whose loads wait for `release`; `log` has the order of loads."""
        self.log, self.gate = [], threading.Semaphore(0)
        self.monitor = StateMonitor()

        def load(name, version, path):
            self.log.append(version)
            self.gate.acquire()
            if path.name == "bad":
                raise ServingError("DATA_LOSS", "bad")
            return self.Pretend()

        made = VersionManager(load, self.monitor, max_retries=0, tick=0.01)
        yield made
        for _ in range(10):
            self.gate.release()
        made.close()

    def states(self):
        return {s.version: s.state for s in self.monitor.versions("m")}

    def test_highest_loads_first(self, manager):
        manager.set_wanted("m", {v: Path("good") for v in (3, 9, 5)})
        for _ in range(3):
            self.gate.release()
        eventually(lambda: len(self.log) == 3)
        assert self.log == [9, 5, 3]

    def test_unwanted_stays_until_a_wanted_one_is_available(self, manager):
        self.gate.release()
        manager.set_wanted("m", {1: Path("good")})
        eventually(lambda: self.states() == {1: "AVAILABLE"})
        manager.set_wanted("m", {2: Path("good")})
        eventually(lambda: self.log == [1, 2])
        assert manager.is_available("m", 1)
        self.gate.release()
        eventually(lambda: self.states() == {1: "END", 2: "AVAILABLE"})

    def test_unwanted_goes_when_nothing_is_wanted(self, manager):
        self.gate.release()
        manager.set_wanted("m", {1: Path("good")})
        eventually(lambda: self.states() == {1: "AVAILABLE"})
        manager.set_wanted("m", {})
        eventually(lambda: self.states() == {1: "END"})
        assert manager.acquire("m") is None

    def test_of_several_unwanted_ones_one_stays(self, manager):
        for _ in range(2):
            self.gate.release()
        manager.set_wanted("m", {1: Path("good"), 2: Path("good")})
        eventually(lambda: self.states() == {1: "AVAILABLE", 2: "AVAILABLE"})
        manager.set_wanted("m", {3: Path("good")})
        eventually(lambda: self.states() == {1: "END", 2: "AVAILABLE", 3: "LOADING"})
        assert manager.acquire("m").closed is False

    def test_unwanted_survives_when_the_wanted_one_fails(self, manager):
        self.gate.release()
        manager.set_wanted("m", {1: Path("good")})
        eventually(lambda: self.states() == {1: "AVAILABLE"})
        self.gate.release()
        manager.set_wanted("m", {2: Path("bad")})
        eventually(lambda: self.states() == {1: "AVAILABLE", 2: "END"})
        assert manager.outcome("m") == "available"


class TestStart:
    def test_failed_model_fails_the_start_even_if_others_loaded(self, base, tmp_path):
        (tmp_path / "broken" / "1").mkdir(parents=True)
        config = models_config(half=base, broken=tmp_path / "broken")
        server = Server(ServerOptions(models=config, max_load_retries=0))
        with pytest.raises(ServingError) as caught:
            server.start()
        assert caught.value.message.startswith("1 servable(s) did not become available: {")
        assert "Could not find SavedModel" in caught.value.message
        assert server.grpc_port is None

    def test_model_without_versions_makes_the_start_wait(self, half, tmp_path):
        base = tmp_path / "late"
        base.mkdir()
        options = ServerOptions(models=models_config(half=base), file_system_poll_seconds=POLL)
        server = Server(options)
        starter = threading.Thread(target=server.start)
        starter.start()
        time.sleep(0.3)
        assert server.grpc_port is None
        shutil.copytree(half / "1", tmp_path / "aside")
        (tmp_path / "aside").rename(base / "1")
        starter.join(20)
        try:
            assert server.grpc_port
        finally:
            server.stop()

    def test_port_in_use(self, base, calls):
        server = server_of(base, rest_port=calls.server.rest_port)
        with pytest.raises(ServingError, match="Cannot listen on 127"):
            server.start()
        server = server_of(base, port=calls.server.grpc_port)
        with pytest.raises(ServingError, match="Cannot listen on 127"):
            server.start()

    def test_stopping_twice_and_stopping_unstarted(self, base):
        server = server_of(base)
        assert server.stop()
        assert server.stop()
