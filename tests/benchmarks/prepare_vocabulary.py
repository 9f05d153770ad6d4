"""What a large vocabulary costs: counts packed, merged, finished, and looked up.

    python -m tests.benchmarks.prepare_vocabulary --values 1000000 4000000

One field of so many different values (16 hexadecimal digits), each in a process of its own. Writes
`results/prepare_vocabulary.md`, which tests/benchmarks/scale_model.py reads.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing import counting
from preprocessing.encoder import RowEncoder
from preprocessing.schema import DatasetSpec

PIECE_ROWS = 16_384


def peak_bytes() -> int:
    """The process's peak memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def spec() -> DatasetSpec:
    """One field of which every value is kept."""
    return DatasetSpec.parse(
        {
            "name": "one-field",
            "source": {"format": "csv", "files": ["log.csv"]},
            "label": {"column": "label"},
            "fields": [{"name": "user", "kind": "categorical"}],
        }
    )


def run_once(count: int) -> dict[str, Any]:
    """All steps for one size; nanoseconds and bytes a value."""
    found: dict[str, Any] = {"values": count}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        found[f"{name} ns"] = round((time.perf_counter() - start) / count * 1e9)
        return result

    mixed = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values = pa.array([f"{value:016x}" for value in mixed.tolist()])
    table = pa.table(
        [pa.array(np.zeros(count, np.int16)), values, pa.array(np.ones(count, np.int64))],
        schema=counting.SCHEMA,
    )
    blobs = timed("pack", lambda: counting.sharded(table))
    found["shuffled bytes"] = round(sum(map(len, blobs)) / count, 1)
    timed("merge 2", lambda: [counting.merge_counts([blob, blob]) for blob in blobs])
    tables = [counting.from_blob(blob) for blob in blobs]
    # Imported here: TensorFlow comes with it, and its memory is not the vocabulary's.
    from preprocessing import analysis

    before = peak_bytes()
    vocabulary = timed("finish", lambda: analysis.finished(tables, spec(), None))
    found["finish bytes"] = round((peak_bytes() - before) / count)
    timed("list tokens", lambda: analysis.tokens_of(vocabulary, spec()))
    found["token bytes"] = round((peak_bytes() - before) / count)
    encoder = timed("load", lambda: RowEncoder(spec(), vocabulary, np.empty(0)))
    parts = [*encoder._ids, *(part for p in encoder._places for part in vars(p).values())]
    held = vocabulary.nbytes + sum(getattr(part, "nbytes", 0) for part in parts)
    found["worker bytes"] = round(held / count)
    batch = pa.RecordBatch.from_pydict({"user": values.take(pa.array(mixed[:PIECE_ROWS] % count))})
    encoder.encode(batch)
    start = time.perf_counter()
    for _ in range(3):
        encoder.encode(batch)
    found["look up us a row"] = round((time.perf_counter() - start) / 3 / PIECE_ROWS * 1e6, 2)
    return found


def main() -> None:
    """Measures all sizes and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_once(options.one)))
        return
    rows = []
    for count in options.values:
        command = [sys.executable, "-m", "tests.benchmarks.prepare_vocabulary", "--one", str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    from tests.benchmarks.measure import machine, write_results

    sizes = " ".join(map(str, options.values))
    write_results(
        "prepare_vocabulary",
        rows,
        command=f"python -m tests.benchmarks.prepare_vocabulary --values {sizes}",
        note="One field, one process: wall nanoseconds and bytes for each different value."
        " `shuffled bytes`: what a worker sends of each value it has counted; `merge 2`: the same"
        " value from two workers made one; `finish` and `list tokens`: the vocabulary in id order,"
        " on the machine that runs the command; `worker bytes`: what every worker holds while it"
        f" writes; `look up`: for each row of a piece of {PIECE_ROWS:,} rows.",
        where=machine(),
    )


if __name__ == "__main__":
    main()
