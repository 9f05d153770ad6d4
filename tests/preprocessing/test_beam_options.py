"""Options of a run on a cluster: what is checked before a job starts, and what is added."""

import socket
import subprocess
import sys
import time

import grpc
import pytest

from preprocessing.beam_options import beam_options, check_reachable
from preprocessing.errors import PrepareError
from preprocessing.runners import Runner

PLACE = "--job_endpoint=localhost:8099"


def test_workers_are_kept_between_stages_unless_told_otherwise() -> None:
    found = beam_options("FlinkRunner", [PLACE, "--parallelism=2"])
    cache = "--environment_cache_millis=60000"
    assert found == ("--runner=FlinkRunner", PLACE, "--parallelism=2", cache)
    given = beam_options("FlinkRunner", [PLACE, "--environment-cache-millis=0"])
    assert given == ("--runner=FlinkRunner", PLACE, "--environment_cache_millis=0")


@pytest.mark.parametrize(
    ("runner", "words", "message"),
    [
        ("FlinkRuner", [PLACE], r"--runner: no runner 'FlinkRuner'.*FlinkRunner.*; one of "),
        ("FlinkRunner", [], r"FlinkRunner: where is the cluster\? .*--job_endpoint=HOST:PORT"),
        ("SparkRunner", ["--parallelism=2"], r"SparkRunner: where .*--spark_master_url=HOST:PORT"),
        ("FlinkRunner", [PLACE, "--paralelism=2"], r"--paralelism: no option.*parallelism"),
        ("FlinkRunner", [PLACE, "parallelism=2"], r"parallelism=2: expected .* --name=value"),
        ("FlinkRunner", [PLACE, "--parallelism=two"], r"Beam options: .*parallelism.*two"),
        ("FlinkRunner", [PLACE, "--environment_type=EXTERNAL"], r"--environment_config=.* needed"),
        ("DataflowRunner", ["--project=p", "--region=r"], r"--temp_location=\.\.\. is needed"),
        ("SparkRunner", [PLACE, "--flink_conf_dir=/etc"], r"--flink_conf_dir: no option"),
    ],
)
def test_a_mistake_is_one_line(runner: str, words: list[str], message: str) -> None:
    with pytest.raises(PrepareError, match=message) as caught:
        beam_options(runner, words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        ("FlinkRunner", ["--flink_master=jobmanager:8081", "--environment_type=LOOPBACK"]),
        ("FlinkRunner", [PLACE, "--flink-conf-dir=/etc/flink"]),
        ("SparkRunner", [PLACE, "--environment_type=PROCESS", "--environment_config={}"]),
        ("DataflowRunner", ["--project=p", "--region=r", "--temp_location=gs://b/t"]),
        ("PortableRunner", [PLACE, "--environment_type=DOCKER", "--environment_config=image:1"]),
    ],
)
def test_each_runner_takes_its_options(runner: str, words: list[str]) -> None:
    given = [word.split("=")[0].lstrip("-").replace("-", "_") for word in words]
    taken = [word.split("=")[0].lstrip("-") for word in beam_options(runner, words)]
    assert taken[: len(given) + 1] == ["runner", *given]


def test_an_endpoint_nobody_listens_at_is_told_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(PrepareError, match=rf"127\.0\.0\.1:{port}: no job server answers"):
            check_reachable(["--runner=FlinkRunner", f"--job_endpoint=127.0.0.1:{port}"])
        assert time.monotonic() - start < 5
        held.listen()
        check_reachable([f"--job_endpoint=127.0.0.1:{port}"])


@pytest.mark.parametrize("place", ["localhost", "localhost:http", "localhost:123456"])
def test_an_endpoint_is_a_host_and_a_port(place: str) -> None:
    with pytest.raises(PrepareError, match=r"--job_endpoint=localhost"):
        check_reachable([f"--job_endpoint={place}"])


def test_a_job_server_that_goes_away_is_one_line(tmp_path) -> None:
    def ask_nobody(pipeline) -> None:
        with grpc.insecure_channel("127.0.0.1:1") as channel:
            channel.unary_unary("/any")(b"", timeout=5)

    with pytest.raises(PrepareError, match=r"^the job server is gone: UNAVAILABLE, .") as caught:
        Runner().run("count", ask_nobody, tmp_path, 1)
    assert "\n" not in str(caught.value)


def test_workers_need_no_tensorflow() -> None:
    code = "import sys, preprocessing.stages, preprocessing.spans, preprocessing.sampling\n"
    code += "print(*{name.split('.')[0] for name in sys.modules if name.startswith('tensorflow')})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
