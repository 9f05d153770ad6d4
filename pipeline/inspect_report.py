"""The statistics of a prepared dataset for people: a terminal table, PNG plots, one HTML page.

The page is self-contained (its images are inside), so it can be mailed or kept with a run.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.table import Table

from pipeline.files import replacing, write_text

_DPI = 70
_SPLIT = "train"
_COLUMNS = ("field", "kind", "missing", "values", "kept", "infrequent", "most frequent")
_STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:1100px}table{border-collapse:collapse}"
    "td,th{border-bottom:1px solid #ddd;padding:3px 10px;text-align:left}.bad{color:#b00}"
)


def table_rows(stats: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row of text for each field: the training split in a line."""
    rows = []
    for field in stats["fields"]:
        found = field["splits"].get(_SPLIT, {})
        top = found.get("top", [])
        if top:
            most = ", ".join(f"{_short(v['value'])} {v['share']:.1%}" for v in top[:2])
        elif "min" in found:
            middle = found["quantiles"]["0.5"]
            most = f"{found['min']:g} to {found['max']:g}, middle {middle:g}"
        else:
            most = ""
        cardinality = field["cardinality"]
        rows.append(
            (
                field["name"],
                field["kind"],
                f"{found.get('missing_share', 0):.1%}",
                "" if cardinality is None else f"{cardinality:,}",
                f"{field['vocabulary']:,}" if top else "",
                f"{found['infrequent_share']:.1%}" if top else "",
                most,
            )
        )
    return rows


def terminal_table(stats: Mapping[str, Any], title: str) -> Table:
    """The fields as a rich table."""
    splits = ", ".join(
        f"{name} {found['rows']:,} rows {found['label_rate']:.2%} clicked"
        for name, found in stats["splits"].items()
        if found["rows"]
    )
    table = Table(title=f"{title}: {splits}")
    for name in _COLUMNS:
        table.add_column(name, no_wrap=name not in (_COLUMNS[0], _COLUMNS[-1]))
    for row in table_rows(stats):
        table.add_row(*(text.replace("[", r"\[") for text in row))
    return table


def write_report(
    stats: Mapping[str, Any], folder: Path, title: str, findings: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Writes `<field>.png` for each field and report.html; the path of the page."""
    parts = [_splits_table(stats), _findings_table(findings)]
    for number, field in enumerate(stats["fields"]):
        found = field["splits"].get(_SPLIT)
        if found is None:
            continue
        path = folder / f"{number:02d}-{field['name']}.png"
        _plot(field, found, path)
        image = base64.b64encode(path.read_bytes()).decode()
        name = html.escape(field["name"])
        parts.append(f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{image}">')
    fields = _html_table(_COLUMNS, table_rows(stats))
    body = "\n".join([parts[0], parts[1], f"<h2>Fields (training rows)</h2>{fields}", *parts[2:]])
    head = f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    page = folder / "report.html"
    write_text(page, f"<!doctype html>{head}<h1>{html.escape(title)}</h1>\n{body}\n")
    return page


def _splits_table(stats: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{s['rows']:,}", f"{s['positives']:,}", f"{s['label_rate'] or 0:.4f}")
        for name, s in stats["splits"].items()
    ]
    return _html_table(("split", "rows", "clicks", "label rate"), rows)


def _findings_table(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return ""
    rows = [
        (
            f["field"],
            f["measure"],
            f"{f['value']:.4f}",
            f"{f['threshold']:g}",
            "ANOMALY" if f["anomaly"] else "",
            f["detail"],
        )
        for f in findings
    ]
    columns = ("field", "measure", "value", "threshold", "", "detail")
    return f"<h2>Against the baseline</h2>{_html_table(columns, rows)}"


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    lines = []
    for row in rows:
        mark = ' class="bad"' if "ANOMALY" in row else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _plot(field: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    """Bars of the top values or of the histogram, with the label rate as points."""
    figure, axes = plt.subplots(figsize=(9, 3))
    if "histogram" in found:
        bins = found["histogram"]
        names = [f"{low:g}" for low in bins["low"]]
        rows, positives = np.array(bins["rows"]), np.array(bins["positives"])
        axes.set_xlabel(f"{field['name']} from (raw values, bins of about equal rows)")
    else:
        names = [_short(v["value"]) for v in found["top"]]
        rows = np.array([v["rows"] for v in found["top"]])
        positives = np.array([v["positives"] for v in found["top"]])
        axes.set_xlabel(f"{field['name']}: most frequent values")
    at = np.arange(len(names))
    axes.bar(at, rows, color="#7aa6c2")
    axes.set_ylabel("rows")
    axes.set_xticks(at, [name.replace("$", r"\$") for name in names], rotation=60, ha="right")
    rate = axes.twinx()
    rate.plot(at, positives / np.maximum(rows, 1), "o", color="#c0504d")
    rate.set_ylabel("label rate", color="#c0504d")
    rate.set_ylim(0, 1.1 * max(rate.get_ylim()[1], 1e-6))
    with replacing(path) as aside:
        figure.savefig(aside, dpi=_DPI, bbox_inches="tight")
    plt.close(figure)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 24 else f"{text[:23]}…"
