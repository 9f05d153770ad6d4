"""Training: `model.fit` with everything around it that a careful run needs.

    trainer = Trainer(config)
    result = trainer.train()

Two runs of one configuration on one machine give the same weights bit for bit, and so does a run
that was killed and resumed: the order of the examples, the dropout masks and the optimizer's state
are all functions of the seed and the step.
"""

import contextlib
import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

import models
from models.zoo import check_arguments
from pipeline import callbacks as cb
from pipeline import checkpoint
from pipeline.calibration import fit_calibration
from pipeline.checkpoint import CheckpointDirectory
from pipeline.config import RunConfig, TrainingConfig
from pipeline.data import TrainingData
from pipeline.errors import PipelineError
from pipeline.evaluate import Scorer, Split, evaluate_calibrated, evaluate_split
from pipeline.metrics import Metrics, NonFiniteScoreError, SingleClassError
from pipeline.optimizers import build_optimizer, catch_up, gains_from_xla, optimizer_class
from pipeline.report import plot_history, plot_split
from pipeline.rundir import Run, check_spec, load_prepared, prepared_path
from pipeline.strategy import Strategy
from pipeline.variables import to_numpy

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset

# Enough for means and variances to be known within a hundredth.
_NORMALIZED_ROWS = 32768


@dataclasses.dataclass
class TrainResult:
    """What a training run came to."""

    run: Run
    model: keras.Model
    metrics: dict[str, Any]
    history: list[dict[str, float]]


def build_model(config: RunConfig, prepared: "PreparedDataset") -> keras.Model:
    """The configured model with its weights initialized from the seed."""
    manifest = prepared.manifest
    features = models.Features.from_fields(manifest["num_features"], manifest["fields"])
    keras.utils.set_random_seed(config.seed)
    arguments = config.model.arguments
    if config.training.mixed_precision:
        # bfloat16 has float32's range, so that no loss scaling is needed.
        arguments.setdefault("dtype", "mixed_bfloat16")
    try:
        return models.build(config.model.name, features, **arguments)
    except (TypeError, ValueError) as error:
        raise PipelineError(f"model {config.model.name!r} with {arguments}: {error}") from error


def check_names(config: RunConfig) -> None:
    """Raises ValueError where the model or the optimizer, or one of their keys, is unknown."""
    check_arguments(config.model.name, config.model.arguments)
    optimizer_class(config.optimizer)


def steps_per_execution(training: TrainingConfig, steps_per_epoch: int, replicas: int) -> int:
    """Steps that one call into TensorFlow takes; between calls the callbacks run.

    A number that divides the steps of an epoch, and those between checkpoints: Keras would go on
    into the next epoch's batches to complete a call.
    """
    if training.warmup_steps:
        return 1  # the rate is set between calls
    most = training.steps_per_execution
    if most == "auto":
        # Small batches gain, as a call costs a millisecond or two; an epoch keeps 100 calls, for
        # its progress and for where a loss that is no number is found.
        few = min(16, 8192 // training.batch_size, steps_per_epoch // 100)
        most = few if replicas == 1 else 1
    whole = math.gcd(steps_per_epoch, training.checkpoint.every_steps or 0)
    return max((count for count in range(2, most + 1) if whole % count == 0), default=1)


class Trainer:
    """One run, from its configuration to a trained model in the run directory.

    Args:
        config: the resolved configuration.
        prepared: the dataset; loaded from the configuration where not given.
        console: where progress goes.
    """

    def __init__(
        self,
        config: RunConfig,
        prepared: "PreparedDataset | None" = None,
        console: Console | None = None,
    ) -> None:
        _check_backend(config)
        check_names(config)
        self.config = config
        if prepared is None:
            prepared = load_prepared(prepared_path(config))
            check_spec(config, prepared)
        self.prepared = prepared
        self.console = console or Console(stderr=True)
        self.strategy = Strategy(config.strategy)

    def train(self, resume: bool = False, extra_callbacks: Any = ()) -> TrainResult:
        """Fit the model, restore its best weights, save it with its validation metrics.

        Args:
            resume: go on from the newest checkpoint.
            extra_callbacks: further Keras callbacks, called before the checkpoint is written.
        """
        self._check_validation()
        if resume:
            self._check_resumable()
        data = self._data()
        with self.strategy.scope():
            model = self._compiled_model(data)
        # Only now, when most mistakes would have shown: an earlier run there is lost.
        run = Run.create(self.config) if resume else self._begin()
        fit = _Fit(self, run, model, data)
        begun = time.perf_counter()
        fit.run_epochs(resume, extra_callbacks)
        seconds = time.perf_counter() - begun
        fit.stopping.restore_best()
        if self.strategy.is_chief:
            _save_model(run, model)
        metrics = {
            "model": self.config.model.name,
            "parameters": int(model.count_params()),
            "training": {
                "epochs": len(fit.history.rows),
                "best_epoch": fit.stopping.best_epoch + 1,
                "steps": fit.position.step,
                "seconds": round(seconds, 3),
            },
        }
        metrics |= self._finish(run, fit)
        if self.strategy.is_chief:
            metrics = run.update_metrics(**metrics)
        return TrainResult(run, model, metrics, fit.history.rows)

    def _finish(self, run: Run, fit: "_Fit") -> dict[str, Any]:
        """Validation metrics of the best weights, calibration and plots."""
        accumulated, result = fit.validate()
        found = {"validation": result}
        if not self.strategy.is_chief:
            return found
        task, scored = self.config.training.task, accumulated.scored()
        steps = fit_calibration(self.config.calibration, scored) if task == "binary" else []
        if steps:
            run.write_json("calibration.json", steps)
            found["validation_calibrated"] = evaluate_calibrated(
                steps, accumulated, fit.scorer, fit.split
            )
        plot_split(run.plots, "validation", scored, task)
        if fit.history.rows:
            plot_history(fit.history.rows, run.plots / "history.png")
        return found

    def _check_validation(self) -> None:
        """Refuses a validation split without which an epoch's end would only fail."""
        part = self.prepared.manifest["splits"]["validation"]
        rows, positives = part["rows"], part["positives"]
        where = f"validation split of {self.prepared.path}"
        if not rows:
            raise PipelineError(f"{where}: no rows; training is measured by them")
        if positives in (0, rows):
            raise PipelineError(f"{where}: {SingleClassError(rows, int(positives > 0))}")

    def _check_resumable(self) -> None:
        run = Run.load(self.config.run_directory)
        run.check_prepared(self.prepared)
        run.check_resumable(self.config)

    def _begin(self) -> Run:
        """The run directory without what an earlier run left there."""
        manifest = self.prepared.manifest
        run = Run.create(self.config)
        if not self.strategy.is_chief:
            return run
        for stale in ("metrics.json", "calibration.json", "history.csv", "model.keras"):
            (run.directory / stale).unlink(missing_ok=True)
        CheckpointDirectory(run.checkpoints).clear()
        run.write_json(
            "dataset.json",
            {"path": str(self.prepared.path)}
            | {key: manifest[key] for key in ("name", "content_hash", "num_features")}
            | {"fields": [field["name"] for field in manifest["fields"]]},
        )
        return run

    def _compiled_model(self, data: TrainingData) -> keras.Model:
        config = self.config
        model = build_model(config, self.prepared)
        if config.training.init_from:
            from pipeline.transfer import copy_by_token

            copied = copy_by_token(Run.load(config.training.init_from), model, self.prepared)
            self.console.print(f"copied {copied} from {config.training.init_from}")
        manifest, jit = self.prepared.manifest, config.training.jit_compile
        optimizer = build_optimizer(
            config.optimizer,
            manifest["num_features"],
            manifest["num_positions"],
            config.training.batch_size,
        )
        if jit == "auto":
            jit = self.strategy.replicas == 1 and gains_from_xla(optimizer)
        binary = config.training.task == "binary"
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.BinaryCrossentropy(from_logits=True)
            if binary
            else keras.losses.MeanSquaredError(),
            jit_compile=jit,
            steps_per_execution=steps_per_execution(
                config.training, data.steps_per_epoch, self.strategy.replicas
            ),
        )
        optimizer.build(model.trainable_variables)
        return model

    def _data(self) -> TrainingData:
        config = self.config
        return TrainingData(
            self.prepared,
            config.training.batch_size,
            config.seed,
            config.data,
            shuffle=config.training.shuffle,
            signed_labels=config.training.task == "regression",
            # Replicas share a batch evenly, or their losses would not average to the batch's.
            drop_remainder=self.strategy.replicas > 1,
        )


class _Fit:
    """The callbacks of one training run, and the calls of `model.fit`."""

    def __init__(self, trainer: Trainer, run: Run, model: keras.Model, data: TrainingData) -> None:
        config = trainer.config
        training = config.training
        self.trainer, self.run, self.model, self.data = trainer, run, model, data
        self.epochs = training.epochs
        self.scorer = Scorer(model)
        self.split = Split(trainer.prepared, "validation", config.data)
        self.position = cb.Position(data.steps_per_epoch)
        self.directory = CheckpointDirectory(run.checkpoints, training.checkpoint.keep)
        stop = training.early_stopping
        self.stopping = cb.EarlyStopping(
            run.checkpoints / "best.npz",
            config.stopping_metric,
            stop.patience if stop else None,
            stop.min_delta if stop else 0.0,
            start_from_epoch=self._epochs_of_first_weights(),
        )
        self.stopping.set_model(model)  # also where nothing is left to fit
        self.history = cb.HistoryCsv(run.directory / "history.csv")
        self.averages = None
        if model.optimizer.use_ema:
            self.averages = cb.AveragedWeights(lambda: data.inputs(_NORMALIZED_ROWS))
        self.stateful: dict[str, cb.StatefulCallback] = {
            "early_stopping": self.stopping,
            "history": self.history,
        }
        if training.reduce_lr:
            reduce = training.reduce_lr
            self.stateful["reduce_lr"] = cb.ReduceLearningRate(
                config.metric(reduce.metric),
                reduce.factor,
                reduce.patience,
                reduce.min_delta,
                reduce.minimum,
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
            task = self.trainer.config.training.task
            metrics = evaluate_split(self.scorer, self.split, task)
            return metrics, metrics.result()
        except SingleClassError as error:
            where = self.trainer.prepared.path
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
            self.trainer.console.print("training had ended; nothing left to do")
            return
        # The rest of an epoch that was cut must be a whole number of calls too.
        self.model.steps_per_execution = math.gcd(self.model.steps_per_execution, done)
        progress = cb.Progress(
            self.trainer.console, self.position, self.epochs, self.data.batch_size
        )
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
        batches = self.trainer.strategy.batches(self.data, self.position.step, epochs)
        with self.trainer.strategy.fitting(self.model):
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
        training, config = self.trainer.config.training, self.trainer.config
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
        chief = self.trainer.strategy.is_chief
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
            self.trainer.console.print("no checkpoint yet; training from the start")
            return None
        state = checkpoint.restore(paths[-1], checkpoint.training_variables(self.model))
        for name, item in self.stateful.items():
            item.set_state(state["callbacks"][name])
        self.position.step = state["step"]
        state["metrics"] = [to_numpy(variable) for variable in self.model.metrics_variables]
        self.trainer.console.print(f"resumed at step {state['step']} from {paths[-1].name}")
        return state


def _check_backend(config: RunConfig) -> None:
    backend = keras.config.backend()
    if backend not in ("tensorflow", "jax"):
        raise PipelineError(f"KERAS_BACKEND: training runs on tensorflow and jax, not on {backend}")
    if backend == "jax" and config.strategy.name != "none":
        raise PipelineError(
            f"strategy.name: {config.strategy.name} needs the TensorFlow backend, this is jax"
        )


def _save_model(run: Run, model: keras.Model) -> None:
    from pipeline.files import replacing

    with replacing(run.model_path) as aside:
        model.save(aside)
