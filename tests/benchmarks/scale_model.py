"""Rows per second and memory against workers, computed from the committed measurements.

    python -m tests.benchmarks.scale_model

Reads `results/flink_slots.jsonl` and `results/prepare_vocabulary.jsonl`, writes the page
`results/scale_model.md`. Nothing is measured here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from preprocessing.counting import SHARDS
from preprocessing.stages import _MOST_VALUES
from tests.benchmarks.measure import RESULTS
from tests.benchmarks.prepare_vocabulary import PIECE_ROWS

HELD = _MOST_VALUES
WORKERS = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Case:
    """A log. `counted`: different values in all fields; `kept`: those in the vocabulary."""

    title: str
    rows: int
    counted: int
    kept: int
    largest_field: int
    source: str


CASES = (
    Case(
        "Criteo, 45.8 M rows",
        45_840_617,
        33_800_000,
        1_000_000,
        300_000,
        "33.8 M different values, 1.0 M of them seen ten times or more, 0.3 M in the largest field",
    ),
    Case(
        "10 billion rows, a field of 100 M values kept whole",
        10_000_000_000,
        120_000_000,
        110_000_000,
        100_000_000,
        "the size of the IFM paper's Tencent log, with one field of 100 M users, all kept",
    ),
    Case(
        "10 billion rows, that field hashed into 10 M buckets",
        10_000_000_000,
        20_000_000,
        10_000_000,
        5_000_000,
        "the same log with `hash_buckets: 10000000` for the users: they are not counted",
    ),
)


@dataclass(frozen=True)
class Costs:
    """What was measured."""

    rows: int  # of the log measured
    fixed_s: float
    count_rate: float  # rows/s of one core
    write_rate: float
    two: float  # times as fast are two slots as one, fixed cost included
    worker_mb: float
    value: dict[str, float]  # per value, from the largest vocabulary measured
    look_up_doubled: float  # microseconds a row more for a field twice as large

    def look_up(self, values: int) -> float:
        """Seconds a row in a field of so many values: a search in a sorted list."""
        doublings = math.log2(values / self.value["values"])
        return max(self.value["look up us a row"] + self.look_up_doubled * doublings, 0) * 1e-6

    @classmethod
    def measured(cls) -> Costs:
        """From the committed files."""
        runs = {(r["slots"], r["run"]): r for r in _records("flink_slots")}
        tiny, one = runs[1, "small"], runs[1, "large"]
        small, large = sorted(_records("prepare_vocabulary"), key=lambda r: r["values"])
        more = large["look up us a row"] - small["look up us a row"]
        beyond = {k: one[k] - tiny[k] for k in ("count s", "write s")}
        return cls(
            one["rows"],
            tiny["wall s"],
            one["rows"] / beyond["count s"],
            one["rows"] / beyond["write s"],
            one["wall s"] / runs[2, "large"]["wall s"],
            one["largest worker MB"],
            large,
            more / math.log2(large["values"] / small["values"]),
        )


def _records(name: str) -> list[dict[str, Any]]:
    lines = (RESULTS / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def values_sent(case: Case, workers: int) -> int:
    """At most so many values cross the network.

    Each worker sends a value once as long as it can hold all values; otherwise, in the worst case,
    once for each row.
    """
    return min(case.counted * workers if case.counted <= HELD else case.rows, case.rows)


def stages(case: Case, costs: Costs, workers: int) -> dict[str, float]:
    """Seconds of each stage."""
    value = costs.value
    sent = values_sent(case, workers)
    merging = min(workers, SHARDS)
    look_up = costs.look_up(case.largest_field)
    return {
        "fixed": costs.fixed_s,
        "count": case.rows / costs.count_rate / workers,
        "merge": sent * (value["merge 2 ns"] / 2 + value["pack ns"] / workers) * 1e-9 / merging,
        "finish": case.kept * (value["finish ns"] + value["list tokens ns"]) * 1e-9,
        "write": case.rows * (1 / costs.write_rate + look_up) / workers,
    }


def shuffled_gb(case: Case, costs: Costs, workers: int) -> float:
    """What crosses the network between counting and merging."""
    return values_sent(case, workers) * costs.value["shuffled bytes"] / 1e9


def table(case: Case, costs: Costs) -> list[str]:
    """The case's part of the page."""
    lines = [
        f"## {case.title}",
        "",
        f"{case.source[0].upper()}{case.source[1:]}.",
        "",
        "| workers | count | merge | finish | write | all, hours | rows/s | shuffled at most, GB |"
        " a worker, GB | the command, GB | longest |",
        "|" + "---|" * 11,
    ]
    for workers in WORKERS:
        spent = stages(case, costs, workers)
        total = sum(spent.values())
        worker = costs.worker_mb / 1e3 + case.kept * costs.value["worker bytes"] / 1e9
        command = case.kept * costs.value["token bytes"] / 1e9
        shown = [f"{spent[name] / total:.0%}" for name in ("count", "merge", "finish", "write")]
        lines.append(
            f"| {workers:,} | {' | '.join(shown)} | {total / 3600:,.2f} | {case.rows / total:,.0f}"
            f" | {shuffled_gb(case, costs, workers):,.1f} | {worker:,.1f} | {command:,.1f}"
            f" | {max(spent, key=spent.__getitem__)} |"
        )
    return [*lines, "", _verdict(case, costs), ""]


def _verdict(case: Case, costs: Costs) -> str:
    """The number of workers beyond which others than the parallel stages take most of the time."""
    for workers in range(1, 1 << 14):
        spent = stages(case, costs, workers)
        if spent["count"] + spent["write"] < sum(spent.values()) / 2:
            stopping = {name: spent[name] for name in ("merge", "finish", "fixed")}
            first = max(stopping, key=stopping.__getitem__)
            return (
                f"Beyond {workers:,} workers counting and writing take less than half of the time:"
                f" **{first}** saturates first ({stopping[first]:,.0f} s by then)."
            )
    return "Counting and writing take most of the time at any number of workers up to 16,384."


def page() -> str:
    """The whole page."""
    costs = Costs.measured()
    value = costs.value
    lines = [
        "# Preparation at scale, on paper",
        "",
        "Computed by `python -m tests.benchmarks.scale_model` from `flink_slots.jsonl` and"
        " `prepare_vocabulary.jsonl` beside this page; nothing here was run at this size.",
        "",
        f"A worker is one core: it counts {costs.count_rate:,.0f} and writes"
        f" {costs.write_rate:,.0f} Criteo-like rows a second beyond {costs.fixed_s:.0f} s fixed"
        " (submitting jobs, starting workers, the graph). Two of them, on a machine of two cores"
        f" that also ran Flink and the command, were {costs.two:.2f} times as fast as one over"
        f" {costs.rows / 1e6:.0f} M rows, what is fixed included; the model takes workers as being"
        " on machines of their own. A worker sends the values it has counted when"
        f" it holds {HELD / 1e6:.1f} M, or at its end, {value['shuffled bytes']:.0f} bytes each;"
        f" one of {SHARDS} shards merges them, {value['merge 2 ns'] / 2:.0f} ns each; the command"
        f" itself puts the kept ones in order ({value['finish ns']:,.0f} ns and"
        f" {value['token bytes']:,.0f} bytes each); every worker that writes holds them"
        f" ({value['worker bytes']:.0f} bytes each) and looks them up,"
        f" {value['look up us a row']:.1f} us a row in a field of {value['values']:,} values,"
        f" pieces of {PIECE_ROWS:,} rows, and {costs.look_up_doubled:.2f} us more for each"
        " doubling. Reading and writing are taken as fast enough: that is the file"
        " system's to give.",
        "",
    ]
    for case in CASES:
        lines += table(case, costs)
    lines += [
        "## What the design does about it",
        "",
        f"- **Merging** is cut into {SHARDS} shards by a hash of the value, so that no worker holds"
        " all values; what a worker has met is summed there before it is sent, over all blocks of"
        " a bundle as far as memory goes; sums need no order. The shards bound how many workers"
        " merge at once.",
        "- **Finishing** is on one machine, but gets only what is left: each shard drops values"
        " below `min_count` and beyond `top_k` first. In memory it is the largest single need.",
        "- **Shuffle bytes** are those of different values and counts, compressed, never of rows:"
        " rows are read twice instead, once for each pass, and written where they were read.",
        "- **A field of 100 M values** belongs in `hash_buckets`: it is then not counted, merged,"
        " finished or held. The third table is that choice; `min_count` or `top_k` is the other.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Writes the page and prints it."""
    text = page()
    (RESULTS / "scale_model.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
