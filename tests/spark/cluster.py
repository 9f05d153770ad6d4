"""A Spark cluster on 127.0.0.1 with Beam's job server: every part a process of its own.

A master and workers; each job gets one executor process on each worker, and each executor starts
a Python worker process. All are stopped by process id.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.java_processes import JavaProcesses, answer, free_ports, listens

JARS = "CTR_SPARK_JARS"


class SparkCluster(JavaProcesses):
    """Master, workers of one core and job server, started on entering.

    `words` is what `prepare` needs on its command line.
    """

    def __init__(self, jars: Path, folder: Path, workers: int = 2) -> None:
        # Workers start executors with the class path SPARK_HOME/jars.
        home = {"SPARK_HOME": str(folder), "SPARK_SCALA_VERSION": "2.12"}
        super().__init__(jars, folder, **home, SPARK_LOCAL_IP="127.0.0.1")
        self._count = workers
        self._port, self._web = free_ports(2)
        self.words = self._words("SparkRunner")

    def executors_seen(self) -> set[str]:
        """Workers whose executors' Python workers have run something."""
        logs = self._folder.glob("work-*/*/*/stderr")
        seen = "Beam Fn Data client connected"
        return {log.parts[-4] for log in logs if seen in log.read_text(errors="replace")}

    def _start(self) -> None:
        (self._folder / "jars").symlink_to(self._jars)
        master = f"spark://127.0.0.1:{self._port}"
        self._java(
            "master",
            "org.apache.spark.deploy.master.Master",
            *("--host", "127.0.0.1", "--port", str(self._port), "--webui-port", str(self._web)),
            heap="384m",
        )
        self._until(lambda: listens(self._port), "the master")
        for number in range(self._count):
            self._java(
                f"worker-{number}",
                "org.apache.spark.deploy.worker.Worker",
                *(master, "--host", "127.0.0.1", "--cores", "1", "--memory", "1g"),
                *("--webui-port", "0", "--work-dir", str(self._folder / f"work-{number}")),
                heap="256m",
            )
        self._job_server(
            "org.apache.beam.runners.spark.SparkJobServerDriver",
            f"--spark-master-url={master}",
            heap="640m",
            properties=[
                "spark.ui.enabled=false",
                "spark.driver.host=127.0.0.1",
                "spark.executor.memory=800m",
            ],
        )
        self._until(lambda: listens(self._job), "the job server")
        self._until(lambda: self._alive() == self._count, f"{self._count} workers")

    def _alive(self) -> int:
        return answer(f"http://127.0.0.1:{self._web}/json/").get("aliveworkers", 0)
