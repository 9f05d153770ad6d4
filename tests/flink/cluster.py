"""A real Flink cluster on 127.0.0.1: every part a process of its own, all stopped by process id.

    with Cluster(jars, folder, task_managers=2) as cluster:
        run(["python", "-m", "pipeline", "prepare", "criteo", *cluster.words])

One JobManager, TaskManagers and Beam's job server; each TaskManager starts a Python worker process
of its own. Ports are free ones, memory is small, logs and settings go to `folder`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
JARS = "CTR_FLINK_JARS"
START_SECONDS = 90
_MEMORY = {
    "network.min": "64mb",
    "network.max": "64mb",
    "framework.heap.size": "128mb",
    "task.heap.size": "384mb",
    "managed.size": "256mb",
    "task.off-heap.size": "0mb",
    "framework.off-heap.size": "128mb",
    "jvm-metaspace.size": "256mb",
    "jvm-overhead.min": "192mb",
    "jvm-overhead.max": "192mb",
}
# What Flink's own scripts open for Java 17.
_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *("java.lang", "java.lang.reflect", "java.net", "java.nio", "java.io", "java.text"),
        *("java.time", "java.util", "java.util.concurrent", "sun.nio.ch"),
    )
]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """JobManager, TaskManagers and job server, started on entering.

    `words` is what `prepare` needs on its command line.

    Args:
        jars: folder of the jars that pom.xml names.
        folder: where settings, logs and Flink's temporary files go.
        task_managers: TaskManager processes.
        slots: task slots of each.
        parallelism: of the jobs (default: one for each TaskManager).
        one_core_each: whether TaskManager i and its Python worker run on core i only (Linux), as
            on machines of their own.
    """

    def __init__(
        self,
        jars: Path,
        folder: Path,
        task_managers: int = 2,
        slots: int = 1,
        parallelism: int | None = None,
        one_core_each: bool = False,
    ) -> None:
        self._jars, self._folder = jars, folder
        self._count, self._slots = task_managers, slots
        self._parallelism = parallelism or task_managers
        self._one_core_each = one_core_each
        self._rpc, self._rest, self._job, self._artifacts = free_ports(4)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lost: list[int] = []
        self.words = [
            "--runner=FlinkRunner",
            f"--job_endpoint=127.0.0.1:{self._job}",
            f"--artifact_endpoint=127.0.0.1:{self._artifacts}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps({'command': str(folder / 'beam-worker')})}",
            f"--parallelism={self._parallelism}",
        ]

    def __enter__(self) -> Cluster:
        # A caller that is told to end leaves its `with` block too, and so nothing running.
        self._handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def master(self) -> str:
        """Address of the JobManager's REST port."""
        return f"127.0.0.1:{self._rest}"

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def log(self, name: str) -> list[str]:
        """Lines that a process has written."""
        return (self._folder / f"{name}.log").read_text(errors="replace").splitlines()

    def workers_seen(self) -> list[str]:
        """TaskManagers whose Python worker has run something."""
        logs = sorted(self._folder.glob("taskmanager-*.log"))
        seen = "Beam Fn Data client connected"
        return [log.stem for log in logs if seen in log.read_text(errors="replace")]

    def kill(self, name: str) -> int:
        """kill -9 of one Java process; its process group, where its Python worker is."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        self._lost.append(process.pid)
        return process.pid

    def start_task_manager(self, number: int) -> None:
        """One more TaskManager, as a supervisor starts one in place of a lost one."""
        memory = [f"-Dtaskmanager.memory.{key}={value}" for key, value in _MEMORY.items()]
        arguments = [word for option in memory for word in ("-D", option.removeprefix("-D"))]
        self._java(
            f"taskmanager-{number}",
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            *("--configDir", str(self._folder), "-D", "taskmanager.cpu.cores=1", *arguments),
            heap="512m",
            core=number if self._one_core_each else None,
        )

    def rest(self, path: str) -> dict[str, Any]:
        """An answer of the JobManager's REST API."""
        with urllib.request.urlopen(f"http://{self.master}{path}", timeout=10) as answer:
            return json.load(answer)

    def job_seconds(self) -> list[float]:
        """How long each job ran that was submitted, in order."""
        jobs = sorted(self.rest("/jobs/overview")["jobs"], key=lambda job: job["start-time"])
        return [job["duration"] / 1000 for job in jobs]

    def stop(self) -> None:
        """Ends every process that was started, the last one first."""
        signal.signal(signal.SIGTERM, self._handler)
        for process in reversed(self._processes.values()):
            # A TaskManager's Python workers are in its group.
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

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "tmp").mkdir(exist_ok=True)
        settings = "".join(f"{key}: {value}\n" for key, value in self._settings().items())
        (self._folder / "flink-conf.yaml").write_text(settings, encoding="utf-8")
        worker = self._folder / "beam-worker"
        worker.write_text(f'#!/bin/sh\nexec {sys.executable} -m preprocessing.beam_worker "$@"\n')
        worker.chmod(0o755)
        self._java(
            "jobmanager",
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            *("--configDir", str(self._folder), "--executionMode", "cluster"),
            heap="512m",
        )
        for number in range(self._count):
            self.start_task_manager(number)
        self._java(
            "jobserver",
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            f"--flink-master={self.master}",
            "--job-host=127.0.0.1",
            f"--job-port={self._job}",
            f"--artifact-port={self._artifacts}",
            "--expansion-port=-1",
            f"--artifacts-dir={self._folder / 'artifacts'}",
            f"--flink-conf-dir={self._folder}",
            heap="384m",
        )
        self.wait_for_slots(self._count * self._slots)
        self._until(lambda: _listens(self._job), "the job server")

    def wait_for_slots(self, count: int) -> None:
        """Until so many task slots are registered."""
        self._until(lambda: self._registered() >= count, f"{count} task slots")

    def _settings(self) -> dict[str, object]:
        return {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self._rpc,
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "1024m",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": self._slots,
            "taskmanager.load-balance.mode": "SLOTS",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self._rest,
            # One copy of each class: the job brings the jars that are on the class path already.
            "classloader.resolve-order": "parent-first",
            # Without a strategy, a batch job ends with the first TaskManager that is lost.
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 3,
            "restart-strategy.fixed-delay.delay": "2 s",
            "slot.request.timeout": 10_000,
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 5000,
            "io.tmp.dirs": self._folder / "tmp",
        }

    def _java(
        self, name: str, main: str, *arguments: str, heap: str, core: int | None = None
    ) -> None:
        java = Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java"
        logs = ["-Dorg.slf4j.simpleLogger.showDateTime=true"]
        # Parallel collection keeps a thread per core busy for nothing in heaps this small.
        flags = [f"-Xmx{heap}", "-XX:+UseSerialGC", *logs, *_OPENS]
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        self._run(name, [*pinned, str(java), *flags, "-cp", f"{self._jars}/*", main, *arguments])

    def _run(self, name: str, command: Sequence[str]) -> None:
        # TaskManagers hand it on to the Python workers, which must find the project.
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _registered(self) -> int:
        try:
            return int(self.rest("/overview")["slots-total"])
        except OSError:
            return 0

    def _until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + START_SECONDS
        while not true():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    tail = (self._folder / f"{name}.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{tail}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {START_SECONDS} s for {what}")
            time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0
