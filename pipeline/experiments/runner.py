"""Runs the rows of a table and records them.

The validation split chooses, the test split is read once: a row with candidates trains each of
them at the first seed without looking at the test split; the best by validation is then tested,
and trained with the other seeds. All rows get their first seed before any gets its second, so that
a run that is cut short leaves complete rows.
"""

import dataclasses
import json
import math
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

from pipeline.callbacks.base import improves
from pipeline.config import RunConfig
from pipeline.errors import PipelineError
from pipeline.evaluation import evaluate_run
from pipeline.experiments.cost import Cost, machine, versions
from pipeline.experiments.definition import Experiment
from pipeline.experiments.pairs import mean_pairs
from pipeline.experiments.records import Records
from pipeline.files import write_json
from pipeline.train import Trainer, TrainResult

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

_KEPT = ("auc", "logloss", "rmse")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a table."""

    row: str
    variant: str
    seed: int

    def __str__(self) -> str:
        variant = f" {self.variant}" if self.variant else ""
        return f"{self.row}{variant}, seed {self.seed}"


class Runner:
    """Trains what is asked of a table.

    Args:
        experiment: the table.
        records: where its records are kept.
        prepared: the dataset of all rows.
        runs: folder of the run directories.
        resume: keep valid records, and go on with runs that were cut; else all is trained anew.
        console: where progress goes.
    """

    def __init__(
        self,
        experiment: Experiment,
        records: Records,
        prepared: "PreparedDataset",
        runs: Path,
        resume: bool = False,
        console: Console | None = None,
    ) -> None:
        self.experiment = experiment
        self.records = records
        self.prepared = prepared
        self.runs = runs
        self.console = console or Console(stderr=True)
        self._content = prepared.manifest["content_hash"]
        self._resume = resume
        self._done: set[Job] = set()

    def run(self, rows: Sequence[str], seeds: int | None = None) -> Iterator[dict[str, Any]]:
        """Train and record; yields each record when it is written.

        Args:
            rows: names of rows.
            seeds: the first so many of the table's seeds (default: all).

        Raises:
            PipelineError: more seeds asked for than the table names.
        """
        table = self.experiment.table
        if seeds is not None and not 1 <= seeds <= len(table.seeds):
            raise PipelineError(
                f"--seeds {seeds}: {self.experiment.name} has 1 to {len(table.seeds)} seeds"
            )
        chosen = table.seeds[:seeds]
        total = sum(self._runs_of(row, seed) for seed in chosen for row in rows)
        clock = _Clock(total, self.console)
        for seed in chosen:
            for row in rows:
                yield from self._row(row, seed, clock)

    def _row(self, row: str, seed: int, clock: "_Clock") -> Iterator[dict[str, Any]]:
        variants = self.experiment.variants(row)
        if self.experiment.row(row).sweep or len(variants) == 1:
            for variant in variants:
                yield self._one(Job(row, variant, seed), self.experiment.table.read_test, clock)
            return
        first = self.experiment.table.seeds[0]
        tried = [self._one(Job(row, variant, first), False, clock) for variant in variants]
        yield from tried
        best = self.choose(tried)
        yield self._one(Job(row, best, seed), self.experiment.table.read_test, clock)

    def choose(self, tried: Sequence[dict[str, Any]]) -> str:
        """The variant with the best validation metric; the earlier one where they are equal."""
        metric = self.experiment.table.select
        best = tried[0]
        for record in tried[1:]:
            if improves(metric, record["validation"][metric], best["validation"][metric], 0.0):
                best = record
        return best["variant"]

    def _runs_of(self, row: str, seed: int) -> int:
        variants = len(self.experiment.variants(row))
        if self.experiment.row(row).sweep:
            return variants
        return variants if seed == self.experiment.table.seeds[0] else 1

    def _one(self, job: Job, test: bool, clock: "_Clock") -> dict[str, Any]:
        """The record of a run, from the file where it is valid, else trained; tested if asked."""
        fresh = job not in self._done and not self._resume
        known = None if fresh else self._known(job)
        if known and ("test" in known or not test):
            clock.skip(job, self._done)
            self._done.add(job)
            return known
        if job not in self._done:
            clock.begin(job)
        record = self._train(job, test, fresh)
        self.records.put(record)
        clock.end(job, record, self._done)
        self._done.add(job)
        return record

    def _fingerprint(self, job: Job) -> str:
        return self.experiment.fingerprint(job.row, job.variant, job.seed, self._content)

    def directory(self, job: Job) -> Path:
        """The run directory of a job."""
        parts = (job.row, job.variant, str(job.seed))
        name = "-".join(re.sub(r"[^\w.+]+", "-", part).strip("-") for part in parts if part)
        return self.runs / self.experiment.name / name

    def _config(self, job: Job) -> RunConfig:
        config = self.experiment.config(
            job.row, job.variant, job.seed, self.directory(job), self.prepared.path
        )
        pretrain = self.experiment.row(job.row).pretrain
        if not pretrain:
            return config
        source = self._pretrained(pretrain, job.seed)
        training = config.training.model_copy(update={"init_from": source})
        return config.model_copy(update={"training": training})

    def _pretrained(self, row: str, seed: int) -> Path:
        """The run directory of the row to begin from, trained first where it is not there.

        Of a row that tries several settings, the run of the one that it chooses.
        """
        table, variants = self.experiment.table, self.experiment.variants(row)
        best = variants[0]
        if len(variants) > 1:
            jobs = [Job(row, variant, table.seeds[0]) for variant in variants]
            best = self.choose([self._known(job) or self._source(job, test=False) for job in jobs])
        job = Job(row, best, seed)
        if not self._finished(job):
            self._source(job, table.read_test)
        return self.directory(job)

    def _source(self, job: Job, test: bool) -> dict[str, Any]:
        """The record of a run that another begins from, trained for its directory.

        With `resume` a record that there is stays as it is, with what it says of test.
        """
        self.console.print(f"pre-training: {job}", highlight=False)
        known = self._known(job) if self._resume else None
        record = self._train(job, test and not known, False)
        if known:
            return known
        self.records.put(record)
        self._done.add(job)
        return record

    def _known(self, job: Job) -> dict[str, Any] | None:
        """The record of a run, where it is of today's setting and data."""
        known = self.records.get(job.row, job.variant, job.seed)
        return known if known and known["fingerprint"] == self._fingerprint(job) else None

    def _finished(self, job: Job) -> bool:
        directory = self.directory(job)
        return (directory / "model.keras").is_file() and self._is_mine(job)

    def _is_mine(self, job: Job) -> bool:
        """Whether the directory belongs to today's setting and data."""
        path = self.directory(job) / "experiment.json"
        if not path.is_file():
            return False
        return json.loads(path.read_text(encoding="utf-8"))["fingerprint"] == self._fingerprint(job)

    def _train(self, job: Job, test: bool, fresh: bool) -> dict[str, Any]:
        directory = self.directory(job)
        resume = self._is_mine(job) and not fresh and (directory / "config.yaml").is_file()
        if not resume:
            shutil.rmtree(directory, ignore_errors=True)
        keras.utils.clear_session()
        config = self._config(job)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "experiment.json", {"fingerprint": self._fingerprint(job)})
        cost = Cost(directory / "cost.json")
        # Hundreds of epochs are told by their bar, or where there is no terminal not at all.
        console = self.console if self.console.is_terminal else Console(quiet=True)
        trainer = Trainer(config, self.prepared, console)
        result = trainer.train(resume=resume, extra_callbacks=[cost])
        return self._record(job, result, cost.add(), test)

    def _kept(self, metrics: dict[str, float]) -> dict[str, float]:
        """What a record holds of a split's metrics: the usual ones, the table's, its choice's."""
        table = self.experiment.table
        names = dict.fromkeys([*_KEPT, *table.metrics, table.select])
        return {name: round(metrics[name], 5) for name in names if name in metrics}

    def _record(
        self, job: Job, result: TrainResult, cost: dict[str, float], test: bool
    ) -> dict[str, Any]:
        training = result.metrics["training"]
        record: dict[str, Any] = {
            "table": self.experiment.name,
            "row": job.row,
            "variant": job.variant,
            "seed": job.seed,
            "validation": self._kept(result.metrics["validation"]),
            # As published counts do, without the statistics of batch normalization.
            "parameters": sum(math.prod(weight.shape) for weight in result.model.trainable_weights),
            "epochs": training["epochs"],
            "best_epoch": training["best_epoch"],
            "seconds": round(cost["seconds"], 1),
            "cpu_seconds": round(cost["cpu_seconds"], 1),
            "machine": machine(),
            "versions": versions(),
            "data": {"name": self.prepared.manifest["name"], "content_hash": self._content},
            "fingerprint": self._fingerprint(job),
        }
        if test:
            found = evaluate_run(result.run, "test", self.prepared, plots=False)["test"]
            record["test"] = self._kept(found)
        if self.experiment.row(job.row).pairs:
            record["pairs"] = mean_pairs(result.model, self.prepared)
        if test:
            # A tried setting keeps its checkpoints until it is chosen or the others are done.
            shutil.rmtree(result.run.checkpoints, ignore_errors=True)
        return record


class _Clock:
    """Tells which run is on, and about how long the rest will take."""

    def __init__(self, total: int, console: Console) -> None:
        self._left = total
        self._total = total
        self._console = console
        self._spent: list[float] = []
        self._begun = 0.0

    def skip(self, job: Job, done: set[Job]) -> None:
        self._left -= job not in done

    def begin(self, job: Job) -> None:
        number = self._total - self._left + 1
        self._console.print(f"[{number}/{self._total}] {job}", highlight=False, markup=False)
        self._begun = time.perf_counter()

    def end(self, job: Job, record: dict[str, Any], done: set[Job]) -> None:
        if job not in done:
            self._left -= 1
            self._spent.append(time.perf_counter() - self._begun)
        values = record.get("test") or record["validation"]
        told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        split = "test" if "test" in record else "validation"
        self._console.print(f"{job}: {split} {told}; {self._rest()}", highlight=False)

    def _rest(self) -> str:
        if not self._left or not self._spent:
            return f"{self._left} runs left"
        minutes = self._left * sum(self._spent) / len(self._spent) / 60
        return f"{self._left} runs left, about {minutes:.0f} min"
