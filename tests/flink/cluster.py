"""A real Flink cluster on 127.0.0.1: every part a process of its own, all stopped by process id.

    with Cluster(jars, folder, task_managers=2) as cluster:
        run(["python", "-m", "pipeline", "prepare", "criteo", *cluster.words])

One JobManager, TaskManagers and Beam's job server; each TaskManager starts a Python worker process
of its own. Ports are free ones, memory is small, logs and settings go to `folder`.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.java_processes import JavaProcesses, answer, free_ports, listens

JARS = "CTR_FLINK_JARS"
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


class Cluster(JavaProcesses):
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
        super().__init__(jars, folder)
        self._count, self._slots = task_managers, slots
        self._one_core_each = one_core_each
        self._rpc, self._rest = free_ports(2)
        self.words = [
            *self._words("FlinkRunner"),
            f"--parallelism={parallelism or task_managers}",
        ]

    @property
    def master(self) -> str:
        """Address of the JobManager's REST port."""
        return f"127.0.0.1:{self._rest}"

    def workers_seen(self) -> list[str]:
        """TaskManagers whose Python worker has run something."""
        logs = sorted(self._folder.glob("taskmanager-*.log"))
        seen = "Beam Fn Data client connected"
        return [log.stem for log in logs if seen in log.read_text(errors="replace")]

    def start_task_manager(self, number: int) -> None:
        """One more TaskManager, as a supervisor starts one in place of a lost one."""
        memory = [f"taskmanager.memory.{key}={value}" for key, value in _MEMORY.items()]
        settings = [word for setting in memory for word in ("-D", setting)]
        self._java(
            f"taskmanager-{number}",
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            *("--configDir", str(self._folder), "-D", "taskmanager.cpu.cores=1", *settings),
            heap="512m",
            core=number if self._one_core_each else None,
        )

    def job_seconds(self) -> list[float]:
        """How long each job ran that was submitted, in order."""
        jobs = answer(f"http://{self.master}/jobs/overview")["jobs"]
        return [job["duration"] / 1000 for job in sorted(jobs, key=lambda job: job["start-time"])]

    def wait_for_slots(self, count: int) -> None:
        """Until so many task slots are registered."""
        overview = f"http://{self.master}/overview"
        self._until(lambda: answer(overview).get("slots-total", 0) >= count, f"{count} task slots")

    def _start(self) -> None:
        (self._folder / "tmp").mkdir(exist_ok=True)
        settings = "".join(f"{key}: {value}\n" for key, value in self._settings().items())
        (self._folder / "flink-conf.yaml").write_text(settings, encoding="utf-8")
        self._java(
            "jobmanager",
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            *("--configDir", str(self._folder), "--executionMode", "cluster"),
            heap="512m",
        )
        for number in range(self._count):
            self.start_task_manager(number)
        self._job_server(
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            f"--flink-master={self.master}",
            f"--flink-conf-dir={self._folder}",
            heap="384m",
        )
        self.wait_for_slots(self._count * self._slots)
        self._until(lambda: listens(self._job), "the job server")

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
            # Without a strategy, a batch job ends with the first TaskManager that is lost.
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 3,
            "restart-strategy.fixed-delay.delay": "2 s",
            "slot.request.timeout": 10_000,
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 5000,
            "io.tmp.dirs": self._folder / "tmp",
        }
