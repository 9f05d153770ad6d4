"""Overload, slow clients, swaps under load: nobody is failed, starved or told too much."""

import asyncio
import contextlib
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.embedded import Server, ServerOptions, ServingError
from serving.embedded.runner import Admission, Runner
from serving.server_config import BatchingParameters
from tests.serving.embedded.calls import Calls, eventually, predict_request, refused
from tests.serving.embedded.conftest import models_config, open_gate
from tests.serving.embedded.savedmodels import save_half_plus

WAIT = predict_request("all", "gate", n=np.array([5]))
ZERO = predict_request("half", x=np.zeros(1, np.float32))


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


class TestHotSwap:
    @pytest.mark.parametrize("batching", [False, True])
    def test_no_request_fails_while_versions_come_and_go(self, half, tmp_path, batching):
        base = tmp_path / "half"
        shutil.copytree(half / "1", base / "1")
        options = ServerOptions(
            models=models_config(half=base),
            file_system_poll_seconds=0.05,
            max_load_retries=0,
            batching=BatchingParameters() if batching else None,
        )
        seen: list[list[float]] = []
        stop = threading.Event()

        def grpc_load(server):
            answers = []
            seen.append(answers)
            with Calls(server) as calls:
                while not stop.is_set():
                    response = calls.prediction.Predict(ZERO, timeout=30)
                    version = response.model_spec.version.value
                    assert response.outputs["y"].float_val[0] == version
                    answers.append(version)

        def rest_load(server):
            answers = []
            seen.append(answers)
            with Calls(server) as calls:
                while not stop.is_set():
                    response = calls.post("half:predict", {"inputs": [0.0]})
                    assert response.status_code == 200, response.text
                    answers.append(response.json()["outputs"][0])

        with Server(options) as server, ThreadPoolExecutor(4) as pool, Calls(server) as calls:
            loads = [pool.submit(kind, server) for kind in (grpc_load, grpc_load, rest_load)]
            try:
                for version in (2, 3, 5):
                    if version == 5:
                        (base / "4").mkdir()  # a corrupt version among them
                        eventually(lambda: calls.states("half").get(4) == "END")
                    save_half_plus(base, version)
                    eventually(lambda v=version: calls.states("half").get(v) == "AVAILABLE")
                eventually(lambda: calls.states("half")[3] == "END")
                # On a busy machine a client may still be reading its last answer of version 3.
                eventually(lambda: all(answers[-1:] == [5] for answers in seen))
            finally:
                stop.set()
            for load in loads:
                load.result(60)
        for answers in seen:
            assert answers == sorted(answers), "an answer of an older version after a newer one"
            assert answers[-1] == 5
        assert sum(map(len, seen)) > 50


class TestOverload:
    def test_more_than_the_limit_is_turned_away_and_the_server_recovers(self, gated):
        server = gated(max_requests=2, threads=3)
        with Calls(server) as calls:
            held = [calls.prediction.Predict.future(WAIT, timeout=60) for _ in range(2)]
            eventually(lambda: server.admission.in_flight == 2)
            code, text = refused(lambda: calls.prediction.Predict(WAIT, timeout=60))
            assert code == "RESOURCE_EXHAUSTED"
            assert text == "Server is overloaded: 2 requests are waiting or running"
            assert "overloaded" in calls.error("all:predict", {"inputs": 1.0}, 429)
            # Probes and scrapes still work.
            assert calls.states("all") == {123: "AVAILABLE"}
            open_gate(server, times=2)
            for call in held:
                assert call.result().model_spec.version.value == 123
            assert calls.post("all:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}
            assert server.admission.in_flight == 0

    def test_bytes_in_the_house_are_bounded(self, half):
        options = ServerOptions(models=models_config(half=half), max_held_bytes=1000)
        with Server(options) as server, Calls(server) as calls:
            text = calls.error("half:predict", '{"inputs": [' + "1," * 1000 + "1]}", 429)
            assert "bytes of requests are in memory" in text
            large = predict_request("half", x=np.zeros(1000, np.float32))
            code, text = refused(lambda: calls.predict(large))
            assert code == "RESOURCE_EXHAUSTED"
            assert "bytes of requests are in memory" in text
            assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}
            assert len(calls.predict(predict_request("half", x=np.zeros(9, np.float32)))["y"]) == 9
            assert server.admission.in_flight == 0

    def test_admission(self):
        admission = Admission(max_requests=1, max_bytes=10)
        admission.enter()
        with pytest.raises(ServingError, match="overloaded"):
            admission.enter()
        admission.take_bytes(10)
        with pytest.raises(ServingError, match="overloaded"):
            admission.take_bytes(1)
        admission.leave(10)
        admission.enter()
        admission.take_bytes(10)

    def test_what_nobody_waits_for_any_more_is_not_run(self):
        runner = Runner(threads=1)
        ran = []

        async def scenario():
            gate = threading.Event()
            first = asyncio.ensure_future(runner.call(lambda: gate.wait(20), None))
            await asyncio.sleep(0.01)
            with pytest.raises(ServingError) as caught:
                await runner.call(lambda: ran.append(1), time.monotonic() + 0.02)
            assert caught.value.code == "DEADLINE_EXCEEDED"
            gate.set()
            await first
            assert await runner.call(lambda: "next", time.monotonic() + 20) == "next"

        asyncio.run(scenario())
        runner.close()
        assert ran == []


class TestSlowClients:
    @pytest.fixture(scope="class")
    def server(self, half):
        options = ServerOptions(models=models_config(half=half), request_read_seconds=0.4)
        with Server(options) as made:
            yield made

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"POST /v1/models/half:pre",
            b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        ],
    )
    def test_half_open_connections_are_closed(self, server, sent):
        with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
            connection.sendall(sent)
            started = time.monotonic()
            with contextlib.suppress(ConnectionResetError):  # closed all the same
                assert connection.recv(1000) == b""
            assert 0.2 < time.monotonic() - started < 15
        eventually(lambda: server.admission.in_flight == 0)

    def test_dripping_bytes_does_not_buy_time(self, server):
        with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
            connection.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\n")
            started = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - started < 15:
                    connection.sendall(b"X-Drip: 1\r\n")
                    time.sleep(0.02)
            assert time.monotonic() - started < 10

    def test_they_do_not_starve_others(self, server):
        idle = [
            socket.create_connection(("127.0.0.1", server.rest_port), timeout=20)
            for _ in range(100)
        ]
        idle += [
            socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20)
            for _ in range(100)
        ]
        try:
            for connection in idle:
                connection.sendall(b"PO")
            with Calls(server) as calls:
                assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}
                assert calls.predict(ZERO)["y"] == [2.0]
        finally:
            for connection in idle:
                connection.close()

    def test_a_keep_alive_connection_may_pause_longer_than_a_request_may_take(self, server):
        with Calls(server) as calls:
            for _ in range(2):
                assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}
                time.sleep(0.6)

    def test_a_client_that_leaves_early(self, server):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.rest_port)) as connection:
                connection.sendall(
                    b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"
                )
        eventually(lambda: server.admission.in_flight == 0)
        with Calls(server) as calls:
            assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}


class TestStop:
    def test_requests_in_flight_are_answered_and_new_ones_refused(self, gated):
        server = gated()
        with Calls(server) as calls:
            call = calls.prediction.Predict.future(WAIT, timeout=60)
            eventually(lambda: server.admission.in_flight == 1)
            stopped = []
            stopper = threading.Thread(target=lambda: stopped.append(server.stop()))
            stopper.start()
            eventually(lambda: refuses_connections(server.rest_port))
            assert not call.done()
            open_gate(server)
            assert call.result().model_spec.version.value == 123
            stopper.join(60)
            assert stopped == [True]
            with pytest.raises(grpc.RpcError):
                calls.prediction.Predict(ZERO, timeout=5)

    def test_grace_is_a_limit(self, gated):
        server = gated()
        with Calls(server) as calls:
            call = calls.prediction.Predict.future(WAIT, timeout=60)
            eventually(lambda: server.admission.in_flight == 1)
            started = time.monotonic()
            assert server.stop(grace=0.1) is False
            assert time.monotonic() - started < 20
            assert isinstance(call.exception(), grpc.RpcError)


def test_faults_of_ours_keep_their_text_to_themselves(half, monkeypatch):
    def broken(*_):
        raise KeyError("secret detail")

    with Server(ServerOptions(models=models_config(half=half))) as server, Calls(server) as calls:
        monkeypatch.setattr("serving.embedded.json_predict.read_body", broken)
        monkeypatch.setattr("serving.embedded.predict.plan", broken)
        assert calls.error("half:predict", {"inputs": 1.0}, 500) == "Internal error: KeyError"
        assert refused(lambda: calls.predict(ZERO)) == ("INTERNAL", "Internal error: KeyError")
