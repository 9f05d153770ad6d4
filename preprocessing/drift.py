"""Two prepared datasets compared, against the thresholds of the newer one's spec.

For each field, over all rows of each dataset:

- categories: L-infinity, the largest difference of a value's share (missing and infrequent count
  as values), and the share of values the baseline's vocabulary does not have;
- numbers: Jensen-Shannon divergence (base 2, so 0 to 1) of the raw values in 20 bins of equal mass
  in the baseline, missing being one more;

and the difference of the label rates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import statistics
from preprocessing.errors import PrepareError
from preprocessing.filesystem import read_table
from preprocessing.layout import Layout
from preprocessing.prepared import MANIFEST, PreparedDataset
from preprocessing.schema import DatasetSpec
from preprocessing.summary import equal_groups, owners_of

_BINS = 20


@dataclass(frozen=True)
class Finding:
    """One measure of one field (or of the label), its threshold, and what stands out."""

    field: str
    measure: str
    value: float
    threshold: float
    detail: str = ""

    @property
    def anomaly(self) -> bool:
        """True if the measure is above its threshold."""
        return self.value > self.threshold

    def __str__(self) -> str:
        more = f" ({self.detail})" if self.detail else ""
        return f"{self.field}: {self.measure} {self.value:.3g}, threshold {self.threshold:g}{more}"

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {**asdict(self), "anomaly": self.anomaly}


class _Counted:
    """What was counted of a dataset, all splits together."""

    def __init__(self, prepared: PreparedDataset) -> None:
        file = prepared.path / statistics.TABLE
        if not file.is_file():
            raise PrepareError(f"{prepared.path}: no {statistics.TABLE}: prepare it again")
        self.spec = DatasetSpec.parse(prepared.manifest["spec"], str(prepared.path / MANIFEST))
        self.slots = {slot.field.name: slot for slot in Layout.of(self.spec).slots}
        table = read_table(file)
        table = table.group_by(["kind", "field", "key"]).aggregate([("rows", "sum")])
        self._table = table.sort_by([("kind", "ascending"), ("key", "ascending")])
        self._tokens = pa.array(prepared.tokens(), pa.string())
        self._owners = owners_of(self.spec, prepared.vocabulary())
        self._ids = self._table.filter(pc.equal(self._table["kind"], statistics.IDS))
        splits = prepared.manifest["splits"].values()
        self.rows = sum(split["rows"] for split in splits)
        self.label_rate = sum(split["positives"] for split in splits) / max(self.rows, 1)

    def categories(self, name: str) -> pa.Table:
        """(token, share) of a field; the field's bare name stands for infrequent values."""
        own = pa.array(self._owners[self._ids["key"].to_numpy()] == self.slots[name].index)
        ids = self._ids.filter(own)
        rows = ids["rows_sum"].to_numpy().astype(np.float64)
        tokens = self._tokens.take(ids["key"].combine_chunks())
        return pa.table({"token": tokens, "share": rows / max(rows.sum(), 1.0)})

    def known(self, name: str) -> pa.Array:
        """Tokens of all ids of a field, whether any row has them or not."""
        return self._tokens.filter(pa.array(self._owners == self.slots[name].index))

    def bins(self, name: str) -> tuple[np.ndarray, np.ndarray, int]:
        """(bins, rows in each, missing rows) of a number."""
        own = self._table.filter(pc.equal(self._table["field"], self.slots[name].index))
        bins = own.filter(pc.equal(own["kind"], statistics.BINS))
        gone = own.filter(pc.equal(own["kind"], statistics.MISSING))
        missing = pc.sum(gone["rows_sum"]).as_py() or 0
        return bins["key"].to_numpy(), bins["rows_sum"].to_numpy(), missing


def compare(current: PreparedDataset, baseline: PreparedDataset) -> list[Finding]:
    """Every measure, in field order. Raises PrepareError if the two have different fields."""
    new, old = _Counted(current), _Counted(baseline)
    for name in {**new.slots, **old.slots}:
        here, there = new.slots.get(name), old.slots.get(name)
        if here is None or there is None or here.field != there.field:
            raise PrepareError(
                f"field '{name}' is not the same in {current.path} and {baseline.path}: only"
                " datasets with the same fields can be compared"
            )
    limits = new.spec.thresholds
    found = [_label(new, old, limits.label_rate)]
    for name, slot in new.slots.items():
        if slot.field.kind == "numeric":
            divergence = jensen_shannon(*_histograms(new.bins(name), old.bins(name)))
            found.append(Finding(name, "Jensen-Shannon", divergence, limits.jensen_shannon))
            continue
        found.append(_l_infinity(name, new, old, limits.l_infinity))
        if not slot.field.hash_buckets:
            found.append(_new_values(name, new, old, limits.new_values))
    return found


def _label(new: _Counted, old: _Counted, threshold: float) -> Finding:
    detail = f"{old.label_rate:.4f} -> {new.label_rate:.4f}"
    shift = abs(new.label_rate - old.label_rate)
    return Finding("label", "shift of the rate", shift, threshold, detail)


def _l_infinity(name: str, new: _Counted, old: _Counted, threshold: float) -> Finding:
    both = new.categories(name).join(
        old.categories(name), "token", join_type="full outer", right_suffix="_old"
    )
    both = both.sort_by("token")
    after, before = (pc.fill_null(both[c], 0.0).to_numpy() for c in ("share", "share_old"))
    difference = np.abs(after - before)
    if not len(difference):
        return Finding(name, "L-infinity", 0.0, threshold)
    at = int(difference.argmax())
    token = both["token"][at].as_py()
    value = "infrequent values" if token == name else repr(token[len(name) :].removeprefix("="))
    detail = f"most by {value}: share {before[at]:.4f} -> {after[at]:.4f}"
    return Finding(name, "L-infinity", float(difference[at]), threshold, detail)


def _new_values(name: str, new: _Counted, old: _Counted, threshold: float) -> Finding:
    shares = new.categories(name)
    known = pa.concat_arrays([old.known(name), pa.array([name, f"{name}="], pa.string())])
    fresh = shares.filter(pc.invert(pc.is_in(shares["token"], known))).sort_by(
        [("share", "descending"), ("token", "ascending")]
    )
    share = pc.sum(fresh["share"]).as_py() or 0.0
    first = [repr(t[len(name) + 1 :]) for t in fresh["token"].slice(0, 3).to_pylist()]
    detail = f"{len(fresh):,} new, as {', '.join(first)}" if first else ""
    return Finding(name, "share of new values", share, threshold, detail)


def _histograms(
    new: tuple[np.ndarray, np.ndarray, int], old: tuple[np.ndarray, np.ndarray, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows by bin of both, bins of equal mass in the baseline, missing last."""
    keys = np.union1d(new[0], old[0])
    spread = [np.zeros(len(keys), np.int64) for _ in range(2)]
    for counts, (own, rows, _) in zip(spread, (new, old), strict=True):
        counts[np.searchsorted(keys, own)] = rows
    groups = equal_groups(spread[1], _BINS) if spread[1].any() else equal_groups(spread[0], _BINS)
    groups = np.minimum(groups, _BINS - 1)
    after, before = (
        np.append(np.bincount(groups, counts, _BINS), missing)
        for counts, missing in zip(spread, (new[2], old[2]), strict=True)
    )
    return after, before


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence, base 2, of two histograms (any scale); 0 if one is empty."""
    if not p.sum() or not q.sum():
        return 0.0
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(a: np.ndarray) -> float:
        some = a > 0
        return float((a[some] * np.log2(a[some] / middle[some])).sum())

    return max(0.0, (divergence(p) + divergence(q)) / 2)
