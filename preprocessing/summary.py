"""stats.json and schema.pbtxt of a prepared dataset, from what the job counted."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import counting, statistics
from preprocessing.domain import schema_text
from preprocessing.filesystem import DataPath, read_table, write_text
from preprocessing.layout import Layout, Slot
from preprocessing.prepared import MANIFEST
from preprocessing.schema import SPLITS, DatasetSpec

STATS = "stats.json"
SCHEMA = "schema.pbtxt"
FORMAT_VERSION = 1
_TOP = 20
_HISTOGRAM_BINS = 20


def write(spec: DatasetSpec, folder: DataPath) -> None:
    """Completes a dataset folder with stats.json and schema.pbtxt."""
    stats = summarise(spec, folder)
    write_text(folder / STATS, json.dumps(stats, indent=1))
    write_text(folder / SCHEMA, schema_text(spec, stats))


def summarise(spec: DatasetSpec, folder: DataPath) -> dict[str, Any]:
    """Per field and split: rows, missing, cardinality, infrequent, top values, histogram."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    table = read_table(folder / statistics.TABLE)
    tokens = (folder / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    vocabulary = read_table(folder / "vocabulary.parquet")
    parts = _by_field(table, owners_of(spec, vocabulary), len(spec.fields))
    empty = vocabulary.filter(pc.equal(vocabulary["value"], ""))
    none = dict(zip(empty["field"].to_pylist(), empty["id"].to_pylist(), strict=True))
    distinct = _distinct(folder, len(spec.fields))
    splits = {
        name: {**{k: s[k] for k in ("rows", "positives")}, "label_rate": _rate(s)}
        for name, s in manifest["splits"].items()
    }
    fields = []
    for slot, entry in zip(Layout.of(spec).slots, manifest["fields"], strict=True):
        own = {
            "name": slot.field.name,
            "kind": slot.field.kind,
            "vocabulary": entry["vocabulary_size"],
            "cardinality": int(distinct[slot.index]) if _is_counted(slot) else None,
            "splits": {},
        }
        for code, split in enumerate(SPLITS):
            rows = splits[split]["rows"]
            if rows:
                part = parts[code][slot.index]
                own["splits"][split] = _field(slot, part, rows, none.get(slot.index), tokens)
        fields.append(own)
    return {"format_version": FORMAT_VERSION, "splits": splits, "fields": fields}


def owners_of(spec: DatasetSpec, vocabulary: pa.Table) -> np.ndarray:
    """The field index of every id."""
    layout = Layout.of(spec)
    fixed = [slot.index for slot in layout.slots for _ in range(slot.fixed_size)]
    first = np.concatenate([np.arange(len(layout.slots)), np.array(fixed, np.int64)])
    return np.concatenate([first, vocabulary["field"].to_numpy()]).astype(np.int64)


def _is_counted(slot: Slot) -> bool:
    return slot.counted and (slot.field.kind != "numeric" or slot.field.as_category)


def _rate(counts: dict[str, int]) -> float | None:
    return _round(counts["positives"] / counts["rows"]) if counts["rows"] else None


def _round(value: float) -> float:
    """Six significant digits: enough to read, and no rounding noise."""
    return float(f"{value:.6g}")


def _distinct(folder: DataPath, fields: int) -> np.ndarray:
    """Distinct values of each field in the training rows, rare ones too (shard by shard)."""
    found = np.zeros(fields, np.int64)
    for shard in range(counting.SHARDS):
        files = sorted(folder.glob(f"analysis/span-*/vocabulary-{shard:02d}.bin"))
        table = counting.merged([counting.from_blob(f.read_bytes()) for f in files])
        table = table.filter(pc.not_equal(table["value"], ""))
        found += np.bincount(table["field"].to_numpy(), minlength=fields)
    return found


def _by_field(table: pa.Table, owners: np.ndarray, fields: int) -> list[list[pa.Table]]:
    """The counts of each split and field, those of a field's ids among them."""
    split, kind, field, key = (table[c].to_numpy() for c in ("split", "kind", "field", "key"))
    ids = kind == statistics.IDS
    place = split.astype(np.int64) * fields + field
    place[ids] = split[ids].astype(np.int64) * fields + owners[key[ids]]
    order = np.argsort(place, kind="stable")
    table = table.take(pa.array(order))
    edges = np.searchsorted(place[order], np.arange(len(SPLITS) * fields + 1))
    parts = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    return [parts[code * fields :][:fields] for code in range(len(SPLITS))]


def _field(
    slot: Slot, own: pa.Table, rows: int, none: int | None, tokens: list[str]
) -> dict[str, Any]:
    """One field in one split; `none` is the id of its missing token, if it has one."""
    gone = own.filter(pc.equal(own["kind"], statistics.MISSING))
    missing = pc.sum(gone["rows"]).as_py() or 0
    found: dict[str, Any] = {"rows": rows}
    if not slot.numeric:
        ids = own.filter(pc.equal(own["kind"], statistics.IDS))
        found |= _categories(slot, ids, missing, none, tokens)
        missing = found["missing"]
    found |= {"missing": missing, "missing_share": _round(missing / rows)}
    if slot.field.kind == "numeric":
        found |= _numbers(own)
    return found


def _categories(
    slot: Slot, ids: pa.Table, missing: int, none_id: int | None, tokens: list[str]
) -> dict[str, Any]:
    keys, counts, positives = (ids[c].to_numpy() for c in ("key", "rows", "positives"))
    name = slot.field.name
    none = keys == (-1 if none_id is None else none_id)
    rare = keys == slot.index
    infrequent = int(counts[rare].sum())
    if none.any():
        missing = int(counts[none].sum())
    elif slot.field.kind != "numeric" and not slot.field.hash_buckets:
        infrequent -= missing
    shown = np.flatnonzero(~none & ~rare)
    shown = shown[np.lexsort((keys[shown], -counts[shown]))]
    total = int(counts.sum())
    return {
        "missing": missing,
        "values": total,
        "distinct": len(shown),
        "infrequent": infrequent,
        "infrequent_share": _round(infrequent / total) if total else 0.0,
        "top": [
            {
                "value": _value_of(tokens[keys[i]], name),
                "rows": int(counts[i]),
                "share": _round(counts[i] / total),
                "positives": int(positives[i]),
                "label_rate": _round(positives[i] / counts[i]),
            }
            for i in shown[:_TOP]
        ],
    }


def _value_of(token: str, name: str) -> str:
    """The value in a token `name=value`, or what follows the name (`#bucket`, `~quantile`)."""
    return token[len(name) :].removeprefix("=")


def _numbers(own: pa.Table) -> dict[str, Any]:
    """Mean (exact), quantiles (to 3 %) and a histogram of bins with about as many rows each."""
    bins = own.filter(pc.equal(own["kind"], statistics.BINS)).sort_by("key")
    keys, counts, positives = (bins[c].to_numpy() for c in ("key", "rows", "positives"))
    if not len(keys):
        return {"histogram": {"low": [], "high": [], "rows": [], "positives": []}}
    sums = own.filter(pc.equal(own["kind"], statistics.SUMS))
    total = sum(
        Fraction(s) * Fraction(2) ** (e - 24)
        for e, s in zip(sums["key"].to_pylist(), sums["rows"].to_pylist(), strict=True)
    )
    low, high = statistics.bin_edges(keys)
    below = np.cumsum(counts) / counts.sum()
    return {
        "mean": _round(float(total / int(counts.sum()))),
        "min": _round(low[0]),
        "max": _round(high[-1]),
        "quantiles": {
            f"{q:g}": _round(low[np.searchsorted(below, q)]) for q in (0.01, 0.25, 0.5, 0.75, 0.99)
        },
        "histogram": _histogram(low, high, counts, positives),
    }


def _histogram(
    low: np.ndarray, high: np.ndarray, counts: np.ndarray, positives: np.ndarray
) -> dict[str, Any]:
    first = np.flatnonzero(np.diff(equal_groups(counts, _HISTOGRAM_BINS), prepend=-1))
    last = np.append(first[1:], len(counts)) - 1
    return {
        "low": [_round(v) for v in low[first]],
        "high": [_round(v) for v in high[last]],
        "rows": np.add.reduceat(counts, first).tolist(),
        "positives": np.add.reduceat(positives, first).tolist(),
    }


def equal_groups(counts: np.ndarray, groups: int) -> np.ndarray:
    """A group number for each of some ordered bins, so that groups hold about equal counts."""
    before = np.cumsum(counts) - counts
    return (before * groups // max(int(counts.sum()), 1)).astype(np.int64)
