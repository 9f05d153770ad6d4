"""A cluster's Java processes on 127.0.0.1, all stopped by process id."""

from __future__ import annotations

import abc
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 90
# What Flink's and Spark's own scripts open for Java 17.
_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio", "java.io"),
        *("java.text", "java.time", "java.util", "java.util.concurrent", "sun.nio.ch"),
        *("java.util.concurrent.atomic", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
    )
]


def jars_at(variable: str, pattern: str, target: str) -> Path:
    """The folder of jars an environment variable names; skips the test where there is none."""
    if "JAVA_HOME" not in os.environ and not shutil.which("java"):
        pytest.skip("no java on PATH and no JAVA_HOME: Java 11 or 17 is needed")
    folder = os.environ.get(variable)
    if not folder or not any(Path(folder).glob(pattern)):
        pytest.skip(f"{variable}: no folder with {pattern}; `make {target}` fetches them")
    return Path(folder).absolute()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listens(port: int) -> bool:
    """Whether anything listens on a port of this machine."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


class JavaProcesses(abc.ABC):
    """Processes of one cluster with Beam's job server. Entering starts them, by `_start`.

    Settings, logs and the cluster's files go to `folder`; `jars` is the class path of all, and
    `environment` is added to this process's variables.
    """

    def __init__(self, jars: Path, folder: Path, **environment: str) -> None:
        self._jars, self._folder = jars, folder
        # It goes on to the Python workers, which must find the project.
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._job, self._artifacts = free_ports(2)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lost: list[int] = []

    def __enter__(self) -> Self:
        # A caller that is told to end leaves its `with` block too, and so nothing running.
        self._handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abc.abstractmethod
    def _start(self) -> None:
        """Starts all processes and waits until they take jobs."""

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def log(self, name: str) -> list[str]:
        """Lines that a process has written."""
        return self._log(name).read_text(errors="replace").splitlines()

    def kill(self, name: str) -> int:
        """kill -9 of one Java process; its process group, where its Python worker is."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        self._lost.append(process.pid)
        return process.pid

    def stop(self) -> None:
        """Ends every process that was started, the last one first."""
        signal.signal(signal.SIGTERM, self._handler)
        for process in reversed(self._processes.values()):
            # The Python workers that a process has started are in its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._lost.append(process.pid)
        for group in self._lost:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self._processes.clear()
        self._lost.clear()

    def _words(self, runner: str) -> list[str]:
        """What `prepare` needs on its command line: job server and Python workers."""
        return [
            f"--runner={runner}",
            f"--job_endpoint=127.0.0.1:{self._job}",
            f"--artifact_endpoint=127.0.0.1:{self._artifacts}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps({'command': str(self._folder / 'beam-worker')})}",
        ]

    def _job_server(
        self, main: str, *arguments: str, heap: str, properties: Sequence[str] = ()
    ) -> None:
        """Starts Beam's job server, and writes the script that starts its jobs' Python workers."""
        worker = self._folder / "beam-worker"
        worker.write_text(f'#!/bin/sh\nexec {sys.executable} -m preprocessing.beam_worker "$@"\n')
        worker.chmod(0o755)
        # It sends the jars of its class path with each job, 152 MB and most of a small job's time
        # on Flink; but none from a folder of this name. The cluster has them already.
        unsent = self._folder / "gradle" / "wrapper"
        shutil.copytree(self._jars, unsent, dirs_exist_ok=True)
        server = [
            "--job-host=127.0.0.1",
            f"--job-port={self._job}",
            f"--artifact-port={self._artifacts}",
            "--expansion-port=-1",
            f"--artifacts-dir={self._folder / 'artifacts'}",
        ]
        words = [main, *server, *arguments]
        self._java("jobserver", *words, heap=heap, jars=unsent, properties=properties)

    def _java(
        self,
        name: str,
        *main: str,
        heap: str,
        core: int | None = None,
        jars: Path | None = None,
        properties: Sequence[str] = (),
    ) -> None:
        """Starts a main class with its arguments; on one core only, if told."""
        java = Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java"
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        # Parallel collection keeps a thread per core busy for nothing in heaps this small.
        flags = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        path = ["-cp", f"{jars or self._jars}/*"]
        flags += [f"-D{given}" for given in properties]
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*pinned, str(java), *flags, *_OPENS, *path, *main],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _until(self, true: Callable[[], bool], what: str) -> None:
        """Waits for something; raises RuntimeError if a process ends or it takes too long."""
        end = time.monotonic() + START_SECONDS
        while not true():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    tail = self._log(name).read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{tail}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {START_SECONDS} s for {what}")
            time.sleep(0.2)


def answer(address: str) -> dict[str, Any]:
    """The JSON document at an address of a cluster's REST interface; {} if nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=10) as found:
            return json.load(found)
    except OSError:
        return {}
