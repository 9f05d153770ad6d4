"""Protocol section 11: flags, the program, and its stop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving.embedded import ServerOptions, main
from serving.embedded.flags import parse
from serving.server_config import ServerConfigError

BASE = ["--model_base_path=/models/m"]


def test_defaults():
    options = parse(BASE)
    assert (options.host, options.port, options.rest_port) == ("127.0.0.1", 8500, None)
    entry = options.models.model_config_list.config[0]
    assert (entry.name, entry.base_path) == ("default", "/models/m")
    assert options.file_system_poll_seconds == 1
    assert (options.max_load_retries, options.load_retry_seconds) == (5, 60.0)
    assert (options.warmup, options.warmup_iterations) == (True, 1)
    assert options.rest_timeout_seconds == 30.0
    assert options.batching is None
    assert options.ssl is None
    assert not options.monitoring.enabled
    assert not options.health_service
    assert options.tags == ("serve",)


def test_values():
    options = parse(
        [
            *BASE,
            "--model_name=ctr",
            "--port=0",
            "--grpc_socket_path=/tmp/grpc",
            "--rest_api_port=auto",
            "--bind_address=::",
            "--enable_batching",
            "--enable_model_warmup=false",
            "--num_request_iterations_for_warmup=3",
            "--load_retry_interval_micros=500000",
            "--saved_model_tags=serve,gpu",
            "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.primary_user_agent=x",
            "--tensorflow_intra_op_parallelism=2",
            "--tensorflow_inter_op_parallelism=1",
            "--grpc_max_threads=3",
            "--rest_api_timeout_in_ms=1500",
            "--enable_grpc_healthcheck_service",
            "--flush_filesystem_caches=true",
        ]
    )
    assert options.models.model_config_list.config[0].name == "ctr"
    assert (options.host, options.port, options.rest_port) == ("::", None, 0)
    assert options.batching.max_batch_size == 1000
    assert (options.warmup, options.warmup_iterations) == (False, 3)
    assert options.load_retry_seconds == 0.5
    assert options.tags == ("serve", "gpu")
    assert options.grpc_arguments == (
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.primary_user_agent", "x"),
    )
    assert options.session.intra_op_parallelism_threads == 2
    assert options.session.inter_op_parallelism_threads == 1
    assert (options.threads, options.rest_timeout_seconds) == (3, 1.5)
    assert options.health_service


def test_session_parallelism_sets_both_pools():
    flags = [*BASE, "--tensorflow_session_parallelism=3"]
    session = parse(flags).session
    assert (session.intra_op_parallelism_threads, session.inter_op_parallelism_threads) == (3, 3)
    session = parse([*flags, "--tensorflow_inter_op_parallelism=1"]).session
    assert (session.intra_op_parallelism_threads, session.inter_op_parallelism_threads) == (3, 1)


def test_one_thread_inside_an_op_unless_told_otherwise(tmp_path):
    assert parse(BASE).session.intra_op_parallelism_threads == 1
    path = tmp_path / "session.config"
    path.write_text("intra_op_parallelism_threads: 4")
    session = parse([*BASE, f"--tensorflow_session_config_file={path}"]).session
    assert session.intra_op_parallelism_threads == 4
    assert ServerOptions().session is None  # the class leaves the process's pool alone


def test_config_file_replaces_name_and_base_path(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(
        'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } }'
    )
    options = parse([*BASE, f"--model_config_file={path}"])
    assert [c.name for c in options.models.model_config_list.config] == ["a"]
    assert options.model_config_file == path


def test_rest_port_must_differ(capsys):
    assert parse([*BASE, "--port=9000", "--rest_api_port=9000"]).rest_port is None
    assert "REST is not served" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "any", ""])
def test_a_port_is_a_port(port, capsys):
    with pytest.raises(SystemExit):
        parse([*BASE, f"--rest_api_port={port}"])
    assert "expected a port from 0 to 65535 or auto" in capsys.readouterr().err


def test_unknown_flags_print_the_usage_and_the_start_goes_on(capsys):
    assert parse([*BASE, "--no_such_flag=1"]).port == 8500
    printed = capsys.readouterr().err
    assert "--no_such_flag=1" in printed
    assert "usage: " in printed


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "Both model_base_path and model_config_file are empty!"),
        ([*BASE, "--batching_parameters_file=/x"], "without setting --enable_batching"),
        (
            [
                *BASE,
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            "cannot be set together",
        ),
        ([*BASE, "--prefer_tflite_model"], "--prefer_tflite_model is not supported"),
        ([*BASE, "--grpc_channel_arguments=novalue"], "expected key=value"),
        ([*BASE, "--port=0", "--rest_api_port=8501"], "so --grpc_socket_path must be set"),
        (["--model_config_file=/no/such/file"], "/no/such/file: cannot be read"),
    ],
)
def test_impossible_flags(flags, text, capsys):
    with pytest.raises(ServerConfigError, match=re.escape(text)):
        parse(flags)
    assert main(flags) == 2
    assert text in capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("TensorFlow ModelServer: ")


class TestProgram:
    @staticmethod
    def start(*flags):
        root = Path(__file__).parents[3]
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serving.embedded",
                "--port=auto",
                "--rest_api_port=auto",
                *flags,
            ],
            cwd=root,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_serves_and_drains_on_sigterm(self, everything):
        threads = 64 + (os.cpu_count() or 1)
        program = self.start(
            f"--model_base_path={everything}",
            "--model_name=all",
            f"--tensorflow_intra_op_parallelism={threads}",
            "--tensorflow_inter_op_parallelism=3",
        )
        try:
            line = program.stdout.readline()
            found = re.fullmatch(
                r"serving gRPC on 127\.0\.0\.1:(\d+), REST on 127\.0\.0\.1:(\d+)\n", line
            )
            assert found, line
            if sys.platform == "linux":
                # TensorFlow made pools of these sizes: neither came after the runtime had begun.
                tasks = Path(f"/proc/{program.pid}/task").glob("*/comm")
                names = [task.read_text().strip() for task in tasks]
                assert names.count("tf_Compute") == 3
                assert len(names) > threads
            port = int(found[2])
            body = json.dumps({"signature_name": "slow", "inputs": [60_000]}).encode()
            head = f"POST /v1/models/all:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(head.encode() + b"\r\n\r\n" + body)
                with socket.create_connection(("127.0.0.1", port), timeout=60) as other:
                    # Answered after the slow request was read, as there is one event loop.
                    other.sendall(b"GET /v1/models/all HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert other.recv(100).startswith(b"HTTP/1.1 200")
                program.send_signal(signal.SIGTERM)
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            _, err = program.communicate(timeout=60)
            assert program.returncode == 0, err
            assert "Traceback" not in err
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=60)
        finally:
            program.kill()
            program.wait()

    def test_a_model_that_fails_ends_the_program(self, tmp_path):
        (tmp_path / "m" / "1").mkdir(parents=True)
        program = self.start(f"--model_base_path={tmp_path / 'm'}", "--max_num_load_retries=0")
        out, err = program.communicate(timeout=60)
        assert program.returncode == 1
        assert out == ""
        assert "Failed to start server. Error: 1 servable(s) did not become available: {" in err
        assert "Traceback" not in err
