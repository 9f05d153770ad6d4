"""The run of `model.fit`: its callbacks, and where it begins, again after a kill."""

import contextlib
import math
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

from pipeline import callbacks as cb
from pipeline import checkpoint
from pipeline.checkpoint import CheckpointDirectory
from pipeline.config import ReduceLearningRate
from pipeline.data import TrainingData
from pipeline.errors import PipelineError
from pipeline.evaluate import Scorer, Split, evaluate_split
from pipeline.metrics import Metrics, NonFiniteScoreError, SingleClassError
from pipeline.optimizers import catch_up
from pipeline.rundir import Run
from pipeline.strategy import Strategy
from pipeline.variables import to_numpy

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

# Enough for means and variances to be known within a hundredth.
_NORMALIZED_ROWS = 32768


class Fit:
    """The callbacks of one training run, and the calls of `model.fit`.

    Args:
        run: where checkpoints and the history go.
        model: compiled.
        data: the training split.
        prepared: the dataset, whose validation split measures each epoch.
        strategy: that `model` was made under.
        console: where progress goes.
    """

    def __init__(
        self,
        run: Run,
        model: keras.Model,
        data: TrainingData,
        prepared: "PreparedDataset",
        strategy: Strategy,
        console: Console,
    ) -> None:
        config = run.config
        training = config.training
        self.run, self.model, self.data = run, model, data
        self.strategy, self.console = strategy, console
        self.epochs = training.epochs
        self.scorer = Scorer(model)
        self.split = Split(prepared, "validation", config.data)
        self.position = cb.Position(data.steps_per_epoch)
        self.directory = CheckpointDirectory(run.checkpoints, training.checkpoint.keep)
        self.history = cb.HistoryCsv(run.directory / "history.csv")
        self.stopping = self._early_stopping()
        self.stopping.set_model(model)  # also where nothing is left to fit
        self.averages = None
        if model.optimizer.use_ema:
            self.averages = cb.AveragedWeights(lambda: data.inputs(_NORMALIZED_ROWS))
        self.stateful: dict[str, cb.StatefulCallback] = {
            "early_stopping": self.stopping,
            "history": self.history,
        }
        if training.reduce_lr:
            self.stateful["reduce_lr"] = self._reduce_learning_rate(training.reduce_lr)

    def _early_stopping(self) -> cb.EarlyStopping:
        config = self.run.config
        stop = config.training.early_stopping
        return cb.EarlyStopping(
            self.run.checkpoints / "best.npz",
            metric=config.stopping_metric,
            patience=stop.patience if stop else None,
            min_delta=stop.min_delta if stop else 0.0,
            start_from_epoch=self._epochs_of_first_weights(),
        )

    def _reduce_learning_rate(self, reduce: ReduceLearningRate) -> cb.ReduceLearningRate:
        return cb.ReduceLearningRate(
            reduce.factor,
            reduce.minimum,
            metric=self.run.config.metric(reduce.metric),
            patience=reduce.patience,
            min_delta=reduce.min_delta,
            start_from_epoch=self._epochs_of_first_weights(),
        )

    def _epochs_of_first_weights(self) -> int:
        """Epochs in which the first weights are more than a third of their averages."""
        optimizer = self.model.optimizer
        if not optimizer.use_ema:
            return 0
        return math.ceil(1 / (1 - optimizer.ema_momentum) / self.data.steps_per_epoch)

    def validate(self) -> tuple[Metrics, dict[str, float]]:
        """Metrics of the validation split; names the split where it has one class only."""
        try:
            task = self.run.config.training.task
            metrics = evaluate_split(self.scorer, self.split, task)
            return metrics, metrics.result()
        except SingleClassError as error:
            where = self.split.prepared.path
            raise PipelineError(f"validation split of {where}: {error}") from error

    def _evaluate(self) -> dict[str, float]:
        catch_up(self.model.optimizer, self.model.trainable_variables)
        if self.averages:
            self.averages.take()
        skipped = ("rows", "label_rate", "groups")
        try:
            return {k: v for k, v in self.validate()[1].items() if k not in skipped}
        except NonFiniteScoreError as error:
            what = f"validation split: {error}"
            raise cb.NonFiniteLossError(what, self.position, self.run.checkpoints) from error

    def run_epochs(self, resume: bool, extra_callbacks: Any) -> None:
        """All epochs, or those left after the newest checkpoint."""
        restored = self._resume() if resume else None
        steps, done = self.data.steps_per_epoch, self.position.step
        if restored is not None and (restored["finished"] or done >= steps * self.epochs):
            self.console.print("training had ended; nothing left to do")
            return
        # The rest of an epoch that was cut must be a whole number of calls too.
        self.model.steps_per_execution = math.gcd(self.model.steps_per_execution, done)
        progress = cb.Progress(self.console, self.position, self.epochs, self.data.batch_size)
        calls = self._callbacks(progress, restored, extra_callbacks)
        with contextlib.closing(progress):
            epoch, begun = divmod(done, steps)
            if begun:
                # The rest of the epoch that was cut has fewer steps than `fit` allows to vary.
                self._fit(calls, epoch, epoch + 1, steps - begun)
                epoch += 1
            if epoch < self.epochs and not self.model.stop_training:
                self._fit(calls, epoch, self.epochs, steps)

    def _fit(self, calls: list[Any], epoch: int, epochs: int, steps: int) -> None:
        batches = self.strategy.batches(self.data, self.position.step, epochs)
        with self.strategy.fitting(self.model):
            self.model.fit(
                batches,
                initial_epoch=epoch,
                epochs=epochs,
                steps_per_epoch=steps,
                callbacks=calls,
                shuffle=False,  # the dataset has its own order
                verbose=0,
            )

    def _callbacks(
        self, progress: cb.Progress, restored: dict[str, Any] | None, extra: Any
    ) -> list[keras.callbacks.Callback]:
        config = self.run.config
        training = config.training
        calls: list[keras.callbacks.Callback] = [
            self.position,
            cb.NanStop(self.run.checkpoints, self.position),
            cb.Validation(self._evaluate, self.data.rows),
        ]
        if training.warmup_steps:
            rate = config.optimizer.learning_rate
            calls.append(cb.WarmUp(training.warmup_steps, rate, self.position))
        if restored is not None:
            calls.append(cb.RestoreMetrics(restored["metrics"]))
        calls += self.stateful.values()
        if self.averages:
            calls.append(self.averages)
        calls += [progress, *extra]
        chief = self.strategy.is_chief
        if chief and training.tensorboard:
            calls.append(cb.TensorBoardScalars(self.run.directory / "tensorboard"))
        every = training.checkpoint.every_steps
        calls.append(
            cb.Checkpointing(self.directory, self.position, self.stateful, every, writes=chief)
        )
        return calls

    def _resume(self) -> dict[str, Any] | None:
        """Restore the newest checkpoint; None where there is none yet."""
        paths = self.directory.paths()
        if not paths:
            self.console.print("no checkpoint yet; training from the start")
            return None
        state = checkpoint.restore(paths[-1], checkpoint.training_variables(self.model))
        for name, item in self.stateful.items():
            item.set_state(state["callbacks"][name])
        self.position.step = state["step"]
        state["metrics"] = [to_numpy(variable) for variable in self.model.metrics_variables]
        self.console.print(f"resumed at step {state['step']} from {paths[-1].name}")
        return state
