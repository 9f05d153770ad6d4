"""Training: `model.fit` with everything around it that a careful run needs.

    trainer = Trainer(config)
    result = trainer.train()

Two runs of one configuration on one machine give the same weights bit for bit, and so does a run
that was killed and resumed: the order of the examples, the dropout masks and the optimizer's state
are all functions of the seed and the step.
"""

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

from pipeline.calibration import fit_calibration
from pipeline.checkpoint import CheckpointDirectory
from pipeline.config import RunConfig
from pipeline.data import TrainingData
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate_calibrated
from pipeline.fit import Fit
from pipeline.metrics import SingleClassError
from pipeline.model import check_names, compiled_model
from pipeline.report import plot_history, plot_split
from pipeline.rundir import Run, check_spec, load_prepared, prepared_path
from pipeline.strategy import Strategy

if TYPE_CHECKING:
    from preprocessing.prepared import PreparedDataset


@dataclasses.dataclass
class TrainResult:
    """What a training run came to."""

    run: Run
    model: keras.Model
    metrics: dict[str, Any]
    history: list[dict[str, float]]


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
            model = compiled_model(
                self.config,
                self.prepared,
                data.steps_per_epoch,
                self.strategy.replicas,
                self.console,
            )
        # Only now, when most mistakes would have shown: an earlier run there is lost.
        run = Run.create(self.config) if resume else self._begin()
        fit = Fit(run, model, data, self.prepared, self.strategy, self.console)
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

    def _finish(self, run: Run, fit: Fit) -> dict[str, Any]:
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
