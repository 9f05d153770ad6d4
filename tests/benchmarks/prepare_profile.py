"""Where `prepare` spends its CPU time on Criteo-layout rows, step by step, without Beam.

    python -m tests.benchmarks.prepare_profile --rows 200000

CPU microseconds per row (all threads together) of each step a worker does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib

from preprocessing import analysis, counting, sources
from preprocessing.encoder import RowEncoder
from preprocessing.layout import Layout
from preprocessing.records import LEVEL, RecordEncoder
from preprocessing.rows import RowReader
from preprocessing.schema import SPLITS, DatasetSpec
from preprocessing.statistics import RowStatistics
from tests.benchmarks.prepare_criteo import generate, spec


def main() -> None:
    """Prints one line per step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = step()
        print(f"{name:<28}{(time.process_time() - start) / rows * 1e6:6.2f} us/row", flush=True)
        return result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.tsv"
        generate(path, rows)
        dataset = DatasetSpec.parse(spec(path))
        blocks = sources.plan(dataset, Path(folder))
        read = timed(
            "read and check (each pass)",
            lambda: [chunk for block in blocks for chunk in RowReader(dataset, block)],
        )
    train = timed("pick training rows", lambda: [chunk.select(0).served for chunk in read])
    accumulator = counting.Accumulator(dataset)
    timed("count values", lambda: [accumulator.add(batch) for batch in train])
    blobs = timed("pack counts", accumulator.count_blobs)
    tables = [counting.from_blob(blob) for blob in blobs]
    frequent = [table.filter(table["count"].to_numpy() >= dataset.min_count) for table in tables]
    vocabulary = timed("finish vocabulary", lambda: analysis.finished(frequent, dataset, None))
    encoder = RowEncoder(dataset, vocabulary, np.empty(0))
    records = RecordEncoder(encoder.num_features, Layout.of(dataset).num_positions)
    encoded = timed("look up ids and values", lambda: [encoder.encode(c.served) for c in read])
    pairs = list(zip(encoded, read, strict=True))
    seen = RowStatistics(dataset, vocabulary)
    timed("count statistics", lambda: [seen.add(c.split, c.served, *e, c.label) for e, c in pairs])
    streams = timed(
        "encode records",
        lambda: [
            made.stream(c.split == code)
            for e, c in pairs
            for made in [records.encode(*e, c.label)]
            for code in range(len(SPLITS))
        ],
    )
    packed = timed("compress", lambda: [isal_zlib.compress(s, LEVEL) for s in streams])
    print(
        f"{sum(map(len, streams)) / rows:.0f} bytes/row, {sum(map(len, packed)) / rows:.0f} packed"
    )


if __name__ == "__main__":
    main()
