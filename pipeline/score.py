"""Score a file of raw rows and write the scores beside them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.endpoint import Endpoint
from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.progress import Report
from pipeline.raw_rows import batches, count_rows, served_columns


def score_file(
    endpoint: Endpoint, source: Path, output: Path, batch_rows: int, report: Report
) -> int:
    """Write every input row with its scores to `output` (CSV, TSV or Parquet by its suffix).

    The output appears whole or not at all. Returns the number of rows.
    """
    total, done = count_rows(source) or 0, 0
    with replacing(output) as aside, contextlib.ExitStack() as stack:
        writer = None
        for batch in batches(source, batch_rows):
            rows = served_columns(batch, endpoint.columns, str(source), done)
            scored = _with_scores(batch, endpoint.predict(rows))
            if writer is None:
                writer = stack.enter_context(_writer(aside, scored.schema))
            writer.write_batch(scored)
            done += batch.num_rows
            report("rows", done, max(total, done + 1))
        if writer is None:
            raise PipelineError(f"{source}: no rows")
        report("rows", done, done)
    return done


def _with_scores(batch: pa.RecordBatch, scores: dict[str, object]) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in batch.schema.names}
    for name in ("probability", "prediction", "logit"):
        if name in scores:
            columns[name] = pa.array(scores[name], pa.float32())
    return pa.RecordBatch.from_pydict(columns)


@contextlib.contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[pyarrow.csv.CSVWriter | pq.ParquetWriter]:
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, schema) as writer:
            yield writer
        return
    if path.suffix not in (".csv", ".tsv"):
        raise PipelineError(f"{path.suffix!r}: expected an output file in .csv, .tsv or .parquet")
    options = pyarrow.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
    with pyarrow.csv.CSVWriter(path, schema, write_options=options) as writer:
        yield writer
