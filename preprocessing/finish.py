"""The end of a job: add up, check, compare with the graph, name the files, write the manifest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.errors import PrepareError
from preprocessing.filesystem import DataPath, local_copy, read_table, write_text
from preprocessing.layout import Layout, served_columns
from preprocessing.prepared import FORMAT_VERSION, MANIFEST, RawTransform
from preprocessing.schema import SPLITS, DatasetSpec, Source
from preprocessing.spans import Span
from preprocessing.stages import report_path

_PACKAGES = ("tensorflow", "tensorflow-transform", "apache-beam", "pyarrow", "numpy")


def reports(work: DataPath, stage: str, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """A stage's reports on the numbered blocks. Raises PrepareError if one is missing."""
    found = []
    for number in numbers:
        path = report_path(work, stage, number)
        if not path.is_file():
            raise PrepareError(
                f"stage '{stage}' left no report on block {number}: a worker was lost"
            )
        found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


def total(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counters of all blocks together."""
    dropped: dict[str, int] = {}
    for report in found:
        for reason, count in report["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + count
    return {
        "rows_in": sum(r["rows_in"] for r in found),
        "rows_out": sum(sum(r["kept"]) for r in found),
        "rejected": sum(r["rejected"] for r in found),
        "dropped": dict(sorted(dropped.items())),
    }


def check_rejected(spec: DatasetSpec, work: DataPath, blocks: Iterable[int], stage: str) -> None:
    """Raises PrepareError if too many rows are bad, or if no training row is left."""
    found = reports(work, stage, blocks)
    counters = total(found)
    rows, bad = counters["rows_in"], counters["rejected"]
    examples = [text for report in found for text in report["examples"]]
    if bad > spec.max_rejected * rows:
        raise PrepareError(
            f"{bad:,} of {rows:,} rows rejected, more than max_rejected"
            f" {spec.max_rejected:.2%}; first: {examples[0]}"
        )
    if stage == "count" and not sum(report["kept"][0] for report in found):
        raise PrepareError(f"no training row among {rows:,} rows (dropped: {counters['dropped']})")


def _check_sums(
    work: DataPath, counted: Sequence[int], write: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The counters of the whole job. Raises PrepareError unless every row is accounted for."""
    counters = total(write)
    _balance(counters, 0)
    for number, before in zip(counted, reports(work, "count", counted), strict=True):
        same = ("rows_in", "kept", "positives", "rejected", "dropped")
        if any(before[k] != write[number][k] for k in same):
            raise PrepareError("the input changed while the job was reading it: run it again")
    read = [json.loads(p.read_text()) for p in sorted(work.glob("negatives-?????.json"))]
    if not read:
        return counters
    before = total(read)
    shards = [json.loads(p.read_text()) for p in (work / "sampled").glob("*.json")]
    sampled = sum(shard["sampled"] for shard in shards)
    counters["rows_in"] = before["rows_in"]
    counters["rejected"] += before["rejected"]
    for reason, count in before["dropped"].items():
        counters["dropped"][reason] = counters["dropped"].get(reason, 0) + count
    counters["sampled"] = sampled
    _balance(counters, sampled)
    return counters


def _balance(counters: dict[str, Any], sampled: int) -> None:
    out = counters["rows_out"] + counters["rejected"] + sum(counters["dropped"].values())
    if counters["rows_in"] + sampled != out:
        raise PrepareError(f"rows were lost: {counters}")


def compare_with_graph(spec: DatasetSpec, folder: DataPath, work: DataPath) -> int:
    """Runs the graph on the sampled rows; raises PrepareError unless it gives what was written."""
    with tempfile.TemporaryDirectory() as scratch:
        transform = graph_of(spec, local_copy(folder / "transform_fn", Path(scratch)))
    checked = 0
    for path in sorted(work.glob("sample-*.parquet")):
        table = read_table(path)
        with path.with_suffix(".npz").open("rb") as file, np.load(file) as arrays:
            written = dict(arrays)
        got = transform(tensors_of(table))
        if not (got["ids"].numpy() == written["ids"]).all():
            raise PrepareError("the serving graph gives other ids than were written: not published")
        np_values = got["values"].numpy()
        if not np.allclose(np_values, written["values"], rtol=1e-6, atol=1e-7):
            raise PrepareError("the serving graph gives other values than were written")
        checked += table.num_rows
    return checked


def tensors_of(table: Any) -> dict[str, np.ndarray]:
    """Arrow columns of served names as what the graph takes: bytes, float32 with NaN."""
    columns = {}
    for name in table.column_names:
        values = table[name].to_numpy(zero_copy_only=False)
        if values.dtype == object:
            columns[name] = np.array([str(v).encode() for v in values], object)
        else:
            columns[name] = values.astype(np.float32)
    return columns


def graph_of(spec: DatasetSpec, folder: Path) -> RawTransform:
    """The saved TFT graph in a local folder."""
    return RawTransform(folder, columns_of(spec), Layout.of(spec).num_positions)


def columns_of(spec: DatasetSpec) -> list[dict[str, str]]:
    """The manifest's `columns`: raw serving inputs."""
    return [{"name": n, "dtype": kind} for n, (_, kind) in served_columns(spec).items()]


def _name_files(folder: DataPath, work: DataPath) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for suffix, home in ((".tfrecord.gz", folder), (".parquet", folder / "raw")):
            parts = sorted(work.glob(f"{split}-?????{suffix}"))
            for i, part in enumerate(parts):
                home.mkdir(exist_ok=True)
                final = home / f"{split}-{i:05d}-of-{len(parts):05d}{suffix}"
                part.rename(final)
                if home == folder:
                    named[split].append(final.name)
    rejected = sorted(work.glob("rejected-*.jsonl"))
    for part in rejected:
        (folder / "rejected").mkdir(exist_ok=True)
        part.rename(folder / "rejected" / part.name)
    return named


def _fields(spec: DatasetSpec, vocabulary: Any) -> list[dict[str, Any]]:
    owners = np.bincount(vocabulary["field"].to_numpy(), minlength=len(spec.fields))
    fields = []
    for slot in Layout.of(spec).slots:
        kind = slot.field.kind if slot.field.kind in ("multivalued", "numeric") else "categorical"
        if kind == "numeric" and not slot.numeric:
            kind = "categorical"
        fields.append(
            {
                "name": slot.field.name,
                "kind": kind,
                "start": slot.start,
                "stop": slot.stop,
                "special_id": slot.index,
                "fixed_ids": [slot.fixed_start, slot.fixed_start + slot.fixed_size],
                "vocabulary_size": int(owners[slot.index]),
                "numeric": slot.numeric,
            }
        )
    return fields


def finish(
    spec: DatasetSpec,
    folder: DataPath,
    work: DataPath,
    counted: Sequence[int],
    blocks: int,
    spans: Sequence[Span],
) -> None:
    """Checks the job's results and completes `folder`."""
    write = reports(work, "write", range(blocks))
    counters = _check_sums(work, counted, write)
    checked = compare_with_graph(spec, folder, work)
    vocabulary = read_table(folder / "vocabulary.parquet")
    layout = Layout.of(spec)
    files = _name_files(folder, work)
    splits = {
        split: {
            "rows": sum(r["kept"][code] for r in write),
            "positives": sum(r["positives"][code] for r in write),
            "files": files[split],
            "digest": f"{sum(r['digests'][code] for r in write) % (1 << 64):016x}",
        }
        for code, split in enumerate(SPLITS)
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": spec.name,
        "spec": spec.resolved(),
        "num_features": layout.vocabulary_start + len(vocabulary),
        "num_positions": layout.num_positions,
        "fields": _fields(spec, vocabulary),
        "columns": columns_of(spec),
        "splits": splits,
        "counters": {**counters, "compared_with_graph": checked},
        "spans": [span.plain() for span in spans],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "content_hash": _content_hash(spec, folder, splits),
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))


def _content_hash(spec: DatasetSpec, folder: DataPath, splits: dict[str, Any]) -> str:
    """Over spec, vocabulary, constants and all records, whatever files and order they are in.

    How the log is cut for the workers is no part of it: `block_bytes` counts as the default.
    """
    constants = folder / "constants.json"
    document = spec.resolved()
    document["source"]["block_bytes"] = Source.model_fields["block_bytes"].default
    parts = {
        "spec": document,
        "constants": json.loads(constants.read_text()) if constants.is_file() else [],
        "splits": {
            name: [s["rows"], s["positives"], s["digest"]] for name, s in sorted(splits.items())
        },
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update((folder / "vocabulary.txt").read_bytes())
    return digest.hexdigest()
