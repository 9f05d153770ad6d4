"""Running a Beam pipeline: in this process, in several, or on a cluster's runner."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from preprocessing.errors import PrepareError, SourceError
from preprocessing.filesystem import DataPath
from preprocessing.sources import Block

_POLL_SECONDS = 0.5
_STEP = re.compile(r"\s*\[while running '[^']*'\]")
_KNOWN = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception)): (.+)$", re.M)


def blocks(pipeline: beam.Pipeline, numbered: Sequence[tuple[int, Block]]) -> beam.PCollection:
    """The blocks, spread over the workers."""
    return pipeline | "Blocks" >> beam.Create(list(numbered), reshuffle=False) | beam.Reshuffle()


@dataclass(frozen=True)
class Runner:
    """How to run: `workers` local processes, or whatever `beam_options` say."""

    workers: int = 1
    beam_options: tuple[str, ...] = ()
    progress: Callable[[str, int, int], None] | None = None

    def over_blocks(
        self,
        stage: str,
        numbered: Sequence[tuple[int, Block]],
        step: beam.PTransform,
        work: DataPath,
    ) -> None:
        """Runs one step over the blocks."""
        self.run(stage, lambda p: blocks(p, numbered) | stage >> step, work, len(numbered))

    def run(
        self, stage: str, build: Callable[[beam.Pipeline], object], work: DataPath, total: int
    ) -> None:
        """Builds and runs a pipeline. Raises the worker's own ValueError or OSError in one line."""
        try:
            with self._watched(stage, work, total), self._pipeline() as pipeline:
                build(pipeline)
        except (ValueError, OSError, RuntimeError) as error:
            raise _plain(error) from error
        except grpc.RpcError as error:
            raise PrepareError(f"the job server is gone: {_status(error)}") from error

    def _pipeline(self) -> beam.Pipeline:
        if self.beam_options:
            return beam.Pipeline(options=PipelineOptions(list(self.beam_options)))
        mode = "in_memory" if self.workers == 1 else "multi_processing"
        flags = [f"--direct_num_workers={self.workers}", f"--direct_running_mode={mode}"]
        return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(flags))

    @contextlib.contextmanager
    def _watched(self, stage: str, work: DataPath, total: int) -> Iterator[None]:
        if self.progress is None:
            yield
            return
        stop, tell = threading.Event(), self.progress

        def watch() -> None:
            while not stop.wait(_POLL_SECONDS):
                tell(stage, len(list(work.glob(f"{stage}-*.json"))), total)

        tell(stage, 0, total)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        tell(stage, total, total)


def _status(error: grpc.RpcError) -> str:
    """What a call's error says, in one line."""
    if not isinstance(error, grpc.Call):
        return str(error).splitlines()[0]
    return f"{error.code().name}, {(error.details() or 'no details').splitlines()[0]}"


def _plain(error: Exception) -> Exception:
    """The error a worker raised, without Beam's step names and tracebacks."""
    text = _STEP.sub("", str(error)).strip()
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, _STEP.sub("", error.strerror or text), error.filename)
    lines = _KNOWN.findall(text)
    if isinstance(error, RuntimeError) and lines:
        kind, message = lines[-1]
        return OSError(message) if kind == "OSError" else PrepareError(f"{message}")
    first = text.splitlines()[0] if text else type(error).__name__
    return SourceError(first) if isinstance(error, ValueError) else PrepareError(first)
