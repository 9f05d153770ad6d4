"""The preparation job: raw log -> prepared dataset, by Beam pipelines over blocks of the log.

1. (only for splits by order) count the rows; 2. count the training values and let TFT finish the
vocabulary and the graph; 3. encode and write every block. Then the job checks itself: rows in =
rows out + rejected + dropped, both passes agree, and the graph gives what was written. Only then
is it published.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.beam import analysis_graph_builder
from tensorflow_transform.beam.analyzer_cache import DatasetCache, DatasetKey
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from preprocessing import features, finish, runners, sampling, sources, spans, statistics, summary
from preprocessing.analysis import Analyzers, SumCounts, SumStatistics
from preprocessing.errors import PrepareError
from preprocessing.filesystem import DataPath, copy, local_folder, path_of, remove
from preprocessing.layout import served_columns
from preprocessing.prepared import MANIFEST, PreparedDataset
from preprocessing.publish import staging
from preprocessing.rows import Order
from preprocessing.schema import DatasetSpec
from preprocessing.sources import Block
from preprocessing.stages import CountRows, CountValues, WriteBlock

Progress = Callable[[str, int, int], None]


def prepare(
    spec: DatasetSpec,
    output: str | DataPath,
    data_dir: str | DataPath | None = None,
    *,
    workers: int = 1,
    beam_options: Sequence[str] = (),
    progress: Progress | None = None,
) -> PreparedDataset:
    """Prepares `spec`'s files (relative to `data_dir`, else to the spec's folder) into `output`.

    `workers` > 1 runs Beam's local runner with that many processes; `beam_options` (such as
    `--runner=FlinkRunner`) names another runner, whose workers must see the same file system.
    `progress(stage, blocks done, blocks)` is called from this process. An earlier dataset at
    `output` is replaced in one step, and only by a complete one.

    Raises ValueError (one line) for a bad spec or log, FileNotFoundError, FileExistsError, OSError.
    """
    root = root_of(spec, data_dir)
    runner = runners.Runner(workers, tuple(beam_options), progress)
    return _Job(spec, root, runner).run(path_of(output))


def append(
    files: Sequence[str],
    output: str | DataPath,
    data_dir: str | DataPath,
    *,
    base: str | DataPath | None = None,
    keep_ids: bool = False,
    workers: int = 1,
    beam_options: Sequence[str] = (),
    progress: Progress | None = None,
) -> PreparedDataset:
    """Adds `files` (relative to `data_dir`) to the dataset at `base` (default: `output` itself).

    Only the new files are analysed; the earlier days' counts come from the dataset's cache, and the
    result is that of a full run. All days are then written anew, so `data_dir` must still hold the
    earlier files. With `keep_ids` the earlier vocabulary keeps its ids and new values follow it.
    Raises PrepareError if the dataset cannot grow (a split by order or files, sampled negatives).
    """
    earlier = PreparedDataset.load(base or output)
    old = DatasetSpec.parse(earlier.manifest["spec"], str(earlier.path / MANIFEST))
    if old.split.kind in ("order", "files") or old.negatives or old.source.format == "python":
        raise PrepareError(
            f"{earlier.path}: cannot append: a split by order or files, sampled negatives and a"
            " source in Python depend on the whole log"
        )
    document = old.resolved()
    known = document["source"]["files"]
    document["source"]["files"] = [*known, *(f for f in files if f not in known)]
    runner = runners.Runner(workers, tuple(beam_options), progress)
    job = _Job(DatasetSpec.parse(document), path_of(data_dir).absolute(), runner, earlier, keep_ids)
    return job.run(path_of(output))


class _Job:
    """One run of the pipelines for one target."""

    def __init__(
        self,
        spec: DatasetSpec,
        root: DataPath,
        runner: runners.Runner,
        earlier: PreparedDataset | None = None,
        keep_ids: bool = False,
    ) -> None:
        served_columns(spec)
        self._spec, self._root, self._runner = spec, root, runner
        self._earlier = earlier
        self._kept = earlier.path / "vocabulary.parquet" if earlier and keep_ids else None

    def run(self, output: DataPath) -> PreparedDataset:
        """Prepares into a folder aside and publishes it."""
        with staging(output, MANIFEST) as folder:
            work = folder / "_work"
            work.mkdir()
            blocks = sources.plan(self._spec, self._root)
            history = spans.history(blocks, self._earlier)
            cached = spans.caches(self._earlier)
            spec, blocks = self._sampled(blocks, work)
            numbered = list(enumerate(blocks))
            sampled = self._spec.negatives is not None
            new = [(n, b) for n, b in numbered if sampled or history[-1].holds(b)]
            order = _order(spec, blocks, work, self._runner)
            _analyse(spec, new, folder, work, order, self._runner, cached, self._kept)
            finish.check_rejected(spec, work, [n for n, _ in new], "count")
            write = beam.ParDo(WriteBlock(spec, folder, work, order)) | statistics.Save(folder)
            self._runner.over_blocks("write", numbered, write, work)
            finish.finish(self._spec, folder, work, [n for n, _ in new], len(blocks), history)
            summary.write(self._spec, folder)
            remove(work)
        return PreparedDataset.load(output)

    def _sampled(self, blocks: list[Block], work: DataPath) -> tuple[DatasetSpec, list[Block]]:
        """The spec and blocks to go on with: those of the sampled rows, if there is sampling."""
        if not self._spec.negatives:
            return self._spec, blocks
        sampling.check(self._spec)
        folder = work / "sampled"
        folder.mkdir()
        sampling.sample(self._spec, blocks, folder, work, self._runner)
        finish.check_rejected(self._spec, work, range(len(blocks)), "negatives")
        spec = sampling.sampled_spec(self._spec, folder)
        return spec, sources.plan(spec, folder)


def root_of(spec: DatasetSpec, data_dir: str | DataPath | None) -> DataPath:
    """The folder that the spec's files are relative to."""
    root = path_of(data_dir) if data_dir else (spec.path.parent if spec.path else Path.cwd())
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder {root}")
    return root.absolute()


def _order(
    spec: DatasetSpec, blocks: list[Block], work: DataPath, runner: runners.Runner
) -> Order | None:
    if spec.split.kind != "order":
        return None
    numbered = list(enumerate(blocks))
    runner.over_blocks("rows", numbered, beam.ParDo(CountRows(spec, work)), work)
    before, total = {}, 0
    for report, block in zip(finish.reports(work, "rows", range(len(blocks))), blocks, strict=True):
        before[block.key] = total
        total += sum(report["kept"])
    return Order(before, total)


def _analyse(
    spec: DatasetSpec,
    numbered: list[tuple[int, Block]],
    folder: DataPath,
    work: DataPath,
    order: Order | None,
    runner: runners.Runner,
    cached: Sequence[DataPath],
    kept: DataPath | None,
) -> None:
    """Vocabulary, constants and transform_fn of the given blocks and of earlier spans' caches."""
    spans_folder = folder / "analysis"
    spans_folder.mkdir()
    for path in cached:
        copy(path, spans_folder / path.name)
    new = spans_folder / f"span-{len(cached)}"
    new.mkdir()

    def count(pipeline: beam.Pipeline) -> None:
        step = beam.ParDo(CountValues(spec, work, order))
        blobs = runners.blocks(pipeline, numbered) | step.with_outputs("counts", "numbers")
        for kind, found in (
            ("vocabulary", blobs.counts | "SumCounts" >> SumCounts()),
            ("constants", blobs.numbers | "SumNumbers" >> SumStatistics()),
        ):
            _ = found | f"Keep {kind}" >> beam.Map(spans.keep, str(new), kind)

    runner.run("count", count, work, len(numbered))
    with local_folder(folder) as here:
        _graph(spec, [spans_folder / f"span-{i}" for i in range(len(cached) + 1)], here, kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFT and Beam warn about each trace; none of it is news to a user of this job."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl", "apache_beam", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@_quiet()
def _graph(
    spec: DatasetSpec, counted: Sequence[DataPath], folder: Path, kept: DataPath | None
) -> None:
    """TFT finishes the vocabulary and the graph from the spans' counts, on this machine.

    So a cluster's workers need no TensorFlow, and TFT's temporary files no shared file system.
    """
    preprocess = features.preprocessing_fn(spec, Analyzers(spec, folder, kept))
    names = [DatasetKey(f"span-{i}") for i in range(len(counted))]
    keys = analysis_graph_builder.get_analysis_cache_entry_keys(
        preprocess, features.input_specs(spec), set(names), False
    )

    def build(pipeline: beam.Pipeline) -> None:
        caches = [spans.read(pipeline, path, i) for i, path in enumerate(counted)]
        data = {
            name: DatasetCache({key: cache[_kind(key)] for key in keys}, None)
            for name, cache in zip(names, caches, strict=True)
        }
        analyse = tft_beam.AnalyzeDatasetWithCache(preprocess, pipeline=pipeline)
        transform, _ = (dict.fromkeys(names), data, tensor_adapter(spec)) | analyse
        _ = transform | tft_beam.WriteTransformFn(str(folder))

    with tempfile.TemporaryDirectory() as scratch, tft_beam.Context(temp_dir=scratch):
        runners.Runner().run("graph", build, folder, 0)


def _kind(key: bytes) -> str:
    for kind in (b"vocabulary", b"constants"):
        if b"[" + kind + b"#" in key:
            return kind.decode()
    raise PrepareError(f"TFT names an analyzer cache this job does not know: {key!r}")


def tensor_adapter(spec: DatasetSpec) -> TensorAdapterConfig:
    """How TFT would turn a RecordBatch of served columns into tensors."""
    columns, tensors = [], {}
    for name, (_, kind) in served_columns(spec).items():
        columns.append((name, pa.list_(pa.binary() if kind == "string" else pa.float32())))
        tensors[name] = schema_pb2.TensorRepresentation()
        tensors[name].dense_tensor.column_name = name
        tensors[name].dense_tensor.shape.SetInParent()
    return TensorAdapterConfig(pa.schema(columns), tensors)
