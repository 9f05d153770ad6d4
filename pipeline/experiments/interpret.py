"""Which interactions matter, by field name: from the pair weights that records keep."""

from typing import Any

import numpy as np

from preprocessing.presets import synthetic_sparse

Record = dict[str, Any]
_TOP = 5


def symmetric(pairs: dict[str, Any], key: str) -> np.ndarray:
    """The matrix of a key (F, F) with both directions added and no diagonal."""
    matrix = np.array(pairs[key], np.float64)
    matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0.0)
    return matrix


def strongest(pairs: dict[str, Any], key: str, count: int = _TOP) -> list[tuple[str, str, float]]:
    """The pairs of fields with the largest entries, and each one's share of the sum of all."""
    matrix = symmetric(pairs, key)
    first, second = np.triu_indices(len(matrix), k=1)
    values = matrix[first, second]
    total = np.abs(values).sum() or 1.0
    fields = pairs["fields"]
    order = np.argsort(-values, kind="stable")[:count]
    return [(fields[first[k]], fields[second[k]], float(values[k] / total)) for k in order]


def strongest_table(rows: list[tuple[str, Record]]) -> list[str]:
    """One line a model: its strongest pairs by weight and by contribution to the logit."""
    lines = [
        "| model | by weight (share of all pairs) | by mean contribution, absolute |",
        "|---|---|---|",
    ]
    for name, record in rows:
        cells = [name]
        for key in ("order_2_weights", "order_2_contributions"):
            found = strongest(record["pairs"], key) if key in record["pairs"] else []
            cells.append(", ".join(f"{a}-{b} {100 * share:.0f} %" for a, b, share in found))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def norms_table(rows: list[tuple[str, Record]]) -> list[str]:
    """IFM's Table 3: norm of the field importance of each pair, and its proportion."""
    lines = ["| model | pair | norm | proportion |", "|---|---|---:|---:|"]
    for name, record in rows:
        if "field_norms" not in record["pairs"]:
            continue
        norms = np.array(record["pairs"]["field_norms"])
        for a, b, share in strongest(record["pairs"], "field_norms"):
            fields = record["pairs"]["fields"]
            norm = norms[fields.index(a), fields.index(b)]
            lines.append(f"| {name} | {a}-{b} | {norm:.3f} | {100 * share:.1f} % |")
    return lines if len(lines) > 2 else []


def examples_table(name: str, record: Record) -> list[str]:
    """AFM's Table 1: attention times interaction of each pair, for single rows."""
    pairs = record["pairs"]
    weights = np.array(pairs["examples"]["order_2_weights"])
    parts = np.array(pairs["examples"]["order_2_contributions"])
    fields = pairs["fields"]
    places = [(i, j) for i in range(len(fields)) for j in range(i + 1, len(fields))]
    heads = [f"{fields[i]}-{fields[j]}" for i, j in places]
    lines = [f"| {name}, positive | {' | '.join(heads)} |", "|---" + "|---:" * len(heads) + "|"]
    for number, (weight, part) in enumerate(zip(weights, parts, strict=True), start=1):
        cells = []
        for i, j in places:
            share = weight[i, j]
            inner = (part[i, j] + part[j, i]) / share if share else 0.0
            cells.append(f"{share:.2f} * {inner:.2f}")
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return lines


def planted_strength() -> np.ndarray:
    """What was planted in the made data: (m, m), the sum of the weights of all terms of a pair."""
    _, pairs, triples = synthetic_sparse.terms()
    strength = pairs + triples.sum(axis=2) + triples.sum(axis=1) + triples.sum(axis=0)
    strength = strength + strength.T
    np.fill_diagonal(strength, 0.0)
    return strength


def recovery(record: Record, key: str = "order_2_contributions") -> dict[str, float]:
    """How well a model's pair matrix finds the planted pairs.

    Returns:
        `planted`: their number; `precision`: the share of planted ones among as many of the
        model's strongest pairs; `top`: the same among its ten strongest; `chance`: that of a random
        order; `rank`: Spearman's correlation with the planted strength over all pairs.
    """
    found, truth = symmetric(record["pairs"], key), planted_strength()
    upper = np.triu_indices(len(truth), k=1)
    values, strength = found[upper], truth[upper]
    planted = strength > 0
    order = np.argsort(-values, kind="stable")
    count = int(planted.sum())
    return {
        "planted": count,
        "precision": float(planted[order[:count]].mean()),
        "top": float(planted[order[:10]].mean()),
        "chance": count / len(values),
        "rank": float(np.corrcoef(_ranks(values), _ranks(strength))[0, 1]),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def recovery_table(rows: list[tuple[str, list[Record]]]) -> list[str]:
    """One line a model and reading: means over its seeds."""
    lines = [
        "| model | read from | precision of the top 10 | of as many as planted | chance | "
        "rank correlation with the planted strength |",
        "|---|---|---:|---:|---:|---:|",
    ]
    readings = {"order_2_weights": "weights", "order_2_contributions": "contributions"}
    for name, records in rows:
        for key, reading in readings.items():
            found = [recovery(record, key) for record in records if key in record["pairs"]]
            if not found:
                continue
            means = {item: np.mean([entry[item] for entry in found]) for item in found[0]}
            lines.append(
                f"| {name} | {reading} | {means['top']:.2f} | {means['precision']:.2f} | "
                f"{means['chance']:.2f} | {means['rank']:+.2f} |"
            )
    return lines
