"""Every preset with data, prepared on a Flink cluster on this machine and in one process.

    CTR_FLINK_JARS=.venv/flink-jars python -m tests.benchmarks.flink_presets [PRESET ...]

A JobManager and two TaskManagers, parallelism 2; logs are cut into blocks of 1 MiB so that there is
work for both. Writes `results/flink_presets.md` (with the rows it has of presets not named); ends
with 1 if any content differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from preprocessing.prepared import PreparedDataset
from tests.benchmarks.measure import RESULTS, machine, write_results
from tests.flink.cluster import JARS, Cluster
from tests.flink.datasets import PRESETS, data_of, in_blocks, prepare

_BLOCK_BYTES = 1 << 20
_SHARED = Path(os.environ.get("CTR_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def measure(preset: str, cluster: Cluster, scratch: Path) -> dict[str, Any]:
    """One preset both ways."""
    spec = in_blocks(preset, _BLOCK_BYTES, scratch)
    data = data_of(preset, _SHARED, scratch)
    here = prepare(spec, data, scratch / "direct")
    there = prepare(spec, data, scratch / "flink", cluster.words)
    one, other = here.result["content_hash"], there.result["content_hash"]
    files = {name for part in here.result["splits"].values() for name in part["files"]}
    return {
        "preset": preset,
        "rows in": here.result["counters"]["rows_in"],
        "features": PreparedDataset.load(scratch / "flink").manifest["num_features"],
        "files": len(files),
        "DirectRunner's content": one[:16],
        "Flink's content": other[:16],
        "equal": "yes" if one == other else "NO",
    }


def write(rows: list[dict[str, Any]], where: str) -> None:
    """Writes the table as far as it is known."""
    write_results(
        "flink_presets",
        sorted(rows, key=lambda row: row["preset"]),
        command="CTR_FLINK_JARS=.venv/flink-jars python -m tests.benchmarks.flink_presets",
        note="Each preset whose data is at hand, prepared by `python -m pipeline prepare` in one"
        " process and on Flink 1.19 (a JobManager, two TaskManagers of one slot, parallelism 2,"
        " Python workers as processes of their own), from the same spec and files; the first 16"
        " digits of the manifests' content hashes. Run in several calls of a few presets each.",
        where=where,
    )


def main() -> None:
    """Measures the presets; one line of progress each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=list(PRESETS))
    chosen = parser.parse_args().presets
    where = machine()
    earlier = RESULTS / "flink_presets.jsonl"
    lines = earlier.read_text().splitlines() if earlier.exists() else []
    rows = [row for row in map(json.loads, lines) if row["preset"] not in chosen]
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(Path(os.environ[JARS]).absolute(), Path(folder) / "cluster") as cluster,
    ):
        for preset in chosen:
            scratch = Path(folder) / preset
            scratch.mkdir()
            rows.append(measure(preset, cluster, scratch))
            write(rows, where)
    sys.exit(any(row["equal"] != "yes" for row in rows))


if __name__ == "__main__":
    main()
