"""The preparation job: raw log -> prepared dataset, by Beam pipelines over blocks of the log.

1. (only for splits by order) count the rows; 2. count the training values and let TFT finish the
vocabulary and the graph; 3. encode and write every block. Then the job checks itself: rows in =
rows out + rejected + dropped, both passes agree, and the graph gives what was written. Only then
is it published.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.beam import analysis_graph_builder
from tensorflow_transform.beam.analyzer_cache import DatasetCache, DatasetKey
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from preprocessing import features, finish, runners, sources, spans
from preprocessing.analysis import Analyzers, SumCounts, SumStatistics
from preprocessing.errors import PrepareError
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
    output: str | Path,
    data_dir: str | Path | None = None,
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
    served_columns(spec)
    runner = runners.Runner(workers, tuple(beam_options), progress)
    with staging(Path(output), MANIFEST) as folder:
        work = folder / "_work"
        work.mkdir()
        blocks = sources.plan(spec, root)
        span = spans.Span.of(blocks, root)
        order = _order(spec, blocks, work, runner)
        _analyse(spec, list(enumerate(blocks)), folder, work, order, runner, [], None)
        finish.check_rejected(spec, work, len(blocks), "count")
        write = beam.ParDo(WriteBlock(spec, folder, work, order))
        runner.over_blocks("write", list(enumerate(blocks)), write, work)
        finish.finish(spec, folder, work, blocks, [span])
        shutil.rmtree(work)
    return PreparedDataset.load(output)


def root_of(spec: DatasetSpec, data_dir: str | Path | None) -> Path:
    """The folder that the spec's files are relative to."""
    root = Path(data_dir) if data_dir else (spec.path.parent if spec.path else Path.cwd())
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder {root}")
    return root.absolute()


def _order(
    spec: DatasetSpec, blocks: list[Block], work: Path, runner: runners.Runner
) -> Order | None:
    if spec.split.kind != "order":
        return None
    numbered = list(enumerate(blocks))
    runner.over_blocks("rows", numbered, beam.ParDo(CountRows(spec, work)), work)
    before, total = {}, 0
    for report, block in zip(finish.reports(work, "rows", len(blocks)), blocks, strict=True):
        before[block.key] = total
        total += sum(report["kept"])
    return Order(before, total)


def _analyse(
    spec: DatasetSpec,
    numbered: list[tuple[int, Block]],
    folder: Path,
    work: Path,
    order: Order | None,
    runner: runners.Runner,
    cached: Sequence[Path],
    kept: Path | None,
) -> None:
    """Vocabulary, constants and transform_fn of the given blocks and of earlier spans' caches."""
    new = folder / "analysis" / f"span-{len(cached)}"
    new.mkdir(parents=True)
    analyzers = Analyzers(spec, folder, kept)
    preprocess = features.preprocessing_fn(spec, analyzers)
    specs = features.input_specs(spec)
    names = [DatasetKey(f"span-{i}") for i in range(len(cached) + 1)]
    _quiet()
    keys = analysis_graph_builder.get_analysis_cache_entry_keys(
        preprocess, specs, set(names), False
    )
    with tempfile.TemporaryDirectory(dir=work) as scratch, tft_beam.Context(temp_dir=scratch):

        def build(pipeline: beam.Pipeline) -> None:
            count = beam.ParDo(CountValues(spec, work, order))
            blobs = runners.blocks(pipeline, numbered) | count.with_outputs("counts", "numbers")
            found = {
                "vocabulary": blobs.counts | "SumCounts" >> SumCounts(),
                "constants": blobs.numbers | "SumNumbers" >> SumStatistics(),
            }
            for kind, values in found.items():
                _ = values | f"Keep {kind}" >> beam.Map(spans.keep, str(new), kind)
            caches = [spans.read(pipeline, path, i) for i, path in enumerate(cached)]
            data = {
                name: DatasetCache({key: cache[_kind(key)] for key in keys}, None)
                for name, cache in zip(names, [*caches, found], strict=True)
            }
            analyse = tft_beam.AnalyzeDatasetWithCache(preprocess, pipeline=pipeline)
            transform, _ = (dict.fromkeys(names), data, _adapter(spec)) | analyse
            _ = transform | tft_beam.WriteTransformFn(str(folder))

        runner.run("count", build, work, len(numbered))


def _kind(key: bytes) -> str:
    for kind in (b"vocabulary", b"constants"):
        if b"[" + kind + b"#" in key:
            return kind.decode()
    raise PrepareError(f"TFT names an analyzer cache this job does not know: {key!r}")


def _adapter(spec: DatasetSpec) -> TensorAdapterConfig:
    """How TFT would turn a RecordBatch of served columns into tensors."""
    columns, tensors = [], {}
    for name, (_, kind) in served_columns(spec).items():
        columns.append((name, pa.list_(pa.binary() if kind == "string" else pa.float32())))
        tensors[name] = schema_pb2.TensorRepresentation()
        tensors[name].dense_tensor.column_name = name
        tensors[name].dense_tensor.shape.SetInParent()
    return TensorAdapterConfig(pa.schema(columns), tensors)


def _quiet() -> None:
    """TFT and Beam warn about each trace; none of it is news to a user of this job."""
    for name in ("tensorflow", "absl", "apache_beam", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
