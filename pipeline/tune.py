"""Search over any key of the configuration, with Optuna.

Optuna and not KerasTuner: its trials are plain functions, so that a trial is the same `Trainer` a
user runs; its median pruner sees the metric of every epoch; and its SQLite storage lets a search be
killed, resumed, or worked on by several processes. KerasTuner wants to own the model's building and
the fit loop, and resumes only whole trials.

A search space is YAML:

    metric: auc                 # of the validation split; direction follows from the metric
    trials: 20
    pruning: {startup_trials: 5, warmup_epochs: 1}
    space:
      optimizer.learning_rate: {low: 0.0001, high: 0.1, log: true}
      model.dropout: {low: 0.0, high: 0.5, step: 0.1}
      model.embedding_dim: [8, 16, 32]
"""

import csv
import io
import shutil
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import optuna
import pydantic
from rich.console import Console

from pipeline.callbacks import NonFiniteLossError, validation_value
from pipeline.config import METRICS, MetricOrAuto, RunConfig, parse_config
from pipeline.errors import PipelineError
from pipeline.files import write_text
from pipeline.model import check_names
from pipeline.report import plot_trials
from pipeline.rundir import check_spec, load_prepared, prepared_path
from pipeline.train import Trainer
from pipeline.yaml_files import read_mapping, validate


class Range(pydantic.BaseModel):
    """Numbers between `low` and `high`; whole numbers where both are."""

    model_config = pydantic.ConfigDict(extra="forbid")

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = pydantic.Field(None, gt=0)

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} is more than high {self.high}")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("log needs low above 0 and no step")
        return self


# Told apart by form, so that a mistake in a range is not also reported as "not a list".
Choices = Annotated[
    Annotated[Range, pydantic.Tag("Range")] | Annotated[list[Any], pydantic.Tag("list")],
    pydantic.Discriminator(lambda value: "list" if isinstance(value, list) else "Range"),
]


class Pruning(pydantic.BaseModel):
    """Median pruning: a trial worse than the median of the earlier ones at its epoch is ended."""

    model_config = pydantic.ConfigDict(extra="forbid")

    startup_trials: int = pydantic.Field(5, ge=0)
    warmup_epochs: int = pydantic.Field(1, ge=0)


class SearchSpace(pydantic.BaseModel):
    """The search file."""

    model_config = pydantic.ConfigDict(extra="forbid")

    metric: MetricOrAuto = "auto"
    trials: int = pydantic.Field(20, ge=1)
    pruning: Pruning = Pruning()
    space: dict[str, Choices] = pydantic.Field(min_length=1)


def load_space(path: Path) -> SearchSpace:
    """Read and validate a search file; raises PipelineError with one line."""
    return validate(SearchSpace, read_mapping(path), str(path))


class Search:
    """One search in one directory: `study.sqlite3`, `trials.csv`, `search.png`, `best.yaml`.

    Args:
        config: the run every trial starts from.
        space: what varies.
        directory: where the search lives; an unfinished one there goes on.
        console: where progress goes.
    """

    def __init__(
        self, config: RunConfig, space: SearchSpace, directory: Path, console: Console
    ) -> None:
        self.config = config
        self.space = space
        self.directory = directory
        self.console = console
        self.metric = config.metric(space.metric)
        self._check_space()
        directory.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruning = space.pruning
        self.study = optuna.create_study(
            study_name=config.name,
            storage=f"sqlite:///{directory / 'study.sqlite3'}",
            direction="maximize" if METRICS[self.metric] else "minimize",
            pruner=optuna.pruners.MedianPruner(pruning.startup_trials, pruning.warmup_epochs),
            load_if_exists=True,
        )
        begun = self.study.user_attrs.get("metric", self.metric)
        if begun != self.metric:
            raise PipelineError(
                f"{directory}: a search by {begun} is there, not by {self.metric}; "
                "give another --output"
            )
        self.study.set_user_attr("metric", self.metric)
        self._prepared: Any = None

    def run(self, prepared: Any = None) -> dict[str, Any]:
        """Trials until `trials` are done in all, earlier ones included; returns the best."""
        if prepared is None:
            prepared = load_prepared(prepared_path(self.config))
            check_spec(self.config, prepared)
        self._prepared = prepared
        states = optuna.trial.TrialState
        ended = (states.COMPLETE, states.PRUNED)
        while (done := len(self.study.get_trials(states=ended))) < self.space.trials:
            # A seed for each trial: one for the search would draw the first ones again on a resume.
            seed = self.config.seed + len(self.study.trials)
            self.study.sampler = optuna.samplers.TPESampler(seed=seed)
            self.study.optimize(self._objective, n_trials=1)
            self._show(done + 1)
        if not self.study.get_trials(states=(states.COMPLETE,)):
            raise PipelineError(
                "every trial was pruned or diverged; raise pruning.startup_trials, or narrow space"
            )
        self._write()
        best = self.study.best_trial
        return {
            "metric": self.metric,
            "value": best.value,
            "trial": best.number + 1,
            "parameters": best.params,
            "directory": str(self.directory),
        }

    def _check_space(self) -> None:
        """Every key must be one the configuration takes: try a value of each."""
        for key, choices in self.space.space.items():
            if choices == []:
                raise PipelineError(f"space: {key}: no value to choose from")
            value = choices.low if isinstance(choices, Range) else choices[0]
            check_names(self._with({key: value}, self.directory))

    def _with(self, values: dict[str, Any], output: Path) -> RunConfig:
        tree = self.config.model_dump(mode="json")
        for key, value in values.items():
            node = tree
            *parents, last = key.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
                if not isinstance(node, dict):
                    raise PipelineError(f"space: {key}: {parent} is not a section")
            node[last] = value
        tree["output"] = str(output)
        return parse_config(tree, "space")

    def _objective(self, trial: optuna.Trial) -> float:
        values = {key: _suggest(trial, key, c) for key, c in self.space.space.items()}
        output = self.directory / f"trial-{trial.number + 1:03d}"
        config = self._with(values, output)
        trainer = Trainer(config, self._prepared, Console(quiet=True))
        try:
            result = trainer.train(extra_callbacks=[_Prune(trial, self.metric)])
        except NonFiniteLossError as error:
            self.console.print(f"trial {trial.number + 1}: {error}", highlight=False)
            raise optuna.TrialPruned from error
        finally:
            # The weights of a search are rarely wanted; `best.yaml` trains the best again.
            shutil.rmtree(output / "checkpoints", ignore_errors=True)
        return result.metrics["validation"][self.metric]

    def _show(self, number: int) -> None:
        trial = self.study.trials[-1]
        text = ", ".join(f"{key}={value}" for key, value in trial.params.items())
        value = trial.value if trial.value is not None else float("nan")
        self.console.print(
            f"trial {number}/{self.space.trials}  {self.metric} {value:.5f}  "
            f"{trial.state.name.lower()}  {text}",
            highlight=False,
        )

    def _write(self) -> None:
        states = optuna.trial.TrialState
        trials = self.study.get_trials(states=(states.COMPLETE, states.PRUNED))
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["trial", "state", self.metric, "seconds", *self.space.space])
        for trial in trials:
            seconds = trial.duration.total_seconds() if trial.duration else 0.0
            row = [trial.number + 1, trial.state.name.lower(), trial.value, round(seconds, 1)]
            writer.writerow([*row, *(trial.params.get(key) for key in self.space.space)])
        write_text(self.directory / "trials.csv", table.getvalue())
        values = [
            t.value if t.state == states.COMPLETE and t.value is not None else np.nan
            for t in trials
        ]
        best = np.fmax.accumulate if METRICS[self.metric] else np.fmin.accumulate
        plot_trials(values, self.metric, best, self.directory / "search.png")
        config = self._with(self.study.best_params, self.directory / "best")
        write_text(self.directory / "best.yaml", config.to_yaml())


class _Prune(keras.callbacks.Callback):
    """Reports each epoch to Optuna and ends a trial it has no hope for."""

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        super().__init__()
        self._trial = trial
        self._metric = metric

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self._trial.report(validation_value(logs, self._metric, "metric"), epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _suggest(trial: optuna.Trial, key: str, choices: Range | list[Any]) -> Any:
    if isinstance(choices, list):
        return trial.suggest_categorical(key, choices)
    whole = all(isinstance(n, int) for n in (choices.low, choices.high))
    if whole:
        step = int(choices.step or 1)
        return trial.suggest_int(key, choices.low, choices.high, step=step, log=choices.log)
    return trial.suggest_float(key, choices.low, choices.high, step=choices.step, log=choices.log)
