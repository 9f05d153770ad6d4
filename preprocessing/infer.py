"""A first spec from the data: what each column seems to be, written as YAML with comments.

The columns are judged from the first rows, read by the same readers that `prepare` uses. The
result is a starting point to edit, but it loads and prepares as it is.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from preprocessing import columnar, sources
from preprocessing.column_kinds import Column, Guess, guess, label_rank, label_rule
from preprocessing.delimited import read_header
from preprocessing.errors import SourceError
from preprocessing.filesystem import DataPath, parquet_file, path_of
from preprocessing.layout import served_columns, served_name
from preprocessing.schema import DatasetSpec, Source
from preprocessing.sniff import Sniffed, sniff

SAMPLE_ROWS = 100_000
_ALWAYS_MISSING = ("NULL", "null", "\\N", "(null)", "NaN", "nan", "#N/A")
_MISSING_AMONG_NUMBERS = ("NA", "N/A", "n/a", "None", "none", "?", "-")
_FREQUENT = 10_000


def infer(path: str | DataPath, spec_folder: str | Path | None = None) -> str:
    """The YAML text of a spec for a log: one file, or a folder of files like its first.

    `spec_folder` is where the spec will stand; files within it are named relative to it, others
    by their full path. Raises FileNotFoundError, or SourceError for a log that cannot be read.
    """
    path = path_of(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    file = sources.expand([str(path.absolute())], Path("/"))[0]
    found = sniff(file)
    sample, rejected = _sample(file, found)
    if not sample.num_rows:
        raise SourceError(f"{file}: no rows to judge by")
    missing, columns = _columns(sample, found)
    text = _written(path, spec_folder, found, columns, missing, rejected)
    document = yaml.safe_load(text)
    served_columns(DatasetSpec.parse(document, f"inferred spec of {path}"))
    return text


def _sample(path: DataPath, found: Sniffed) -> tuple[pa.Table, int]:
    """The first rows with all columns as text, and how many rows among them could not be read."""
    source = Source.model_validate({**found.source, "files": (path.name,)})
    wanted = sources.Wanted(found.columns, (), found.lists)
    start, groups = 0, ()
    if source.format in ("csv", "tsv"):
        _, start = read_header(path, source)
    elif source.format == "parquet":
        with parquet_file(path) as file:
            groups = tuple(range(file.metadata.num_row_groups))
    block = sources.Block(str(path), path.name, 0, start, None, groups)
    batches, rows, rejected = [], 0, 0
    for chunk in sources.read(block, source, wanted):
        batches.append(columnar.plain(chunk.batch))
        rows += len(chunk.batch)
        rejected += len(chunk.rejected)
        if rows >= SAMPLE_ROWS:
            break
    if not batches:
        return pa.table({f"s:{c}": pa.array([], pa.string()) for c in found.columns}), rejected
    return pa.Table.from_batches(batches).slice(0, SAMPLE_ROWS), rejected


def _columns(sample: pa.Table, found: Sniffed) -> tuple[list[str], list[Column]]:
    """The texts that mean 'missing' in this file, and the columns without them."""
    columns = [
        Column.of(name, sample[f"s:{name}"], found.lists.get(name)) for name in found.columns
    ]
    if found.source["format"] == "parquet":
        return [], columns
    seen = {text for column in columns for text in column.counts}
    missing = [text for text in _ALWAYS_MISSING if text in seen]
    for column in columns:
        doubtful = [text for text in _MISSING_AMONG_NUMBERS if text in column.counts]
        if doubtful and column.without([*missing, *doubtful]).is_number:
            missing += [text for text in doubtful if text not in missing]
    return missing, [column.without(missing) for column in columns]


def _written(
    path: DataPath,
    spec_folder: str | Path | None,
    found: Sniffed,
    columns: list[Column],
    missing: list[str],
    rejected: int,
) -> str:
    label = max(columns, key=label_rank)
    label = label if label_rank(label) > 0 else None
    rows = columns[0].rows
    source = {**found.source, "files": [_named(path, spec_folder)]}
    source |= {"missing": missing} if missing else {}
    lines = [
        f"# A first spec for {path.name}, guessed from its first {rows:,} rows: read it, mend it.",
        *(f"# {note}." for note in found.notes),
    ]
    if rejected:
        lines.append(f"# {rejected:,} rows beside these could not be read.")
    lines += [f"name: {_plain(re.sub(r'[^A-Za-z0-9_.-]+', '-', path.name.split('.')[0]))}"]
    lines += [f"source: {_flow(source)}", *_label_lines(label)]
    if rows >= _FREQUENT:
        lines.append('min_count: 5  # rarer values share one id, "infrequent"')
    lines.append("fields:")
    fields = _field_lines([c for c in columns if c is not label], found.source["format"])
    if not any(line.startswith("  - ") for line in fields):
        raise SourceError(f"{path}: no column beside the label is fit for a field")
    lines += fields
    lines += [
        f"  # column {_flow(name) if name else '(unnamed)'}: not used: {why}"
        for name, why in found.skipped.items()
    ]
    lines += _tail([c for c in columns if c is not label])
    return "\n".join(lines) + "\n"


def _label_lines(label: Column | None) -> list[str]:
    if label is None:
        return [
            "# No column looks like a label, so every row counts as a click; `negatives` adds rows",
            "# that are none (see preprocessing/README.md).",
            "label: {constant: 1}",
        ]
    rule, why = label_rule(label)
    return [f"label: {_flow({'column': label.name, **rule})}  # {why}"]


def _field_lines(columns: list[Column], form: str) -> list[str]:
    lines, names, served = [], Counter[str](), set()
    for column in columns:
        found: Guess = guess(column, form)
        clash = served_name(column.name) in served
        served.add(served_name(column.name))
        for kind in found.fields:
            name = _identifier(kind.pop("name_hint", column.name))
            names[name] += 1
            name += f"_{names[name]}" if names[name] > 1 else ""
            own = {} if name == column.name and kind["kind"] != "time" else {"column": column.name}
            why = found.why
            mark = "- " if found.use and not clash else "# - "
            if clash:
                why = "left out: served under the same name as a column above; rename one"
            entry = {"name": name, **own, **kind}
            entry = {k: entry[k] for k in ("name", "kind", "column", *entry) if k in entry}
            lines.append(f"  {mark}{_flow(entry)}  # {why}")
    return lines


def _tail(columns: list[Column]) -> list[str]:
    lines = ["split: {kind: ratio, train: 0.8, validation: 0.1, test: 0.1, seed: 7}"]
    who = [c.name for c in columns if re.search(r"user|uid|member|visitor|device_id", c.name, re.I)]
    if who:
        key = _flow({"kind": "hash", "key": [who[0]], "train": 0.8, "validation": 0.1, "test": 0.1})
        lines.append(f"# split: {key}  # instead: nobody in two splits")
        lines.append(f"# group: {_flow(who[0])}  # for grouped AUC")
    return lines


def _named(path: DataPath, spec_folder: str | Path | None) -> str:
    if not isinstance(path, Path):
        return str(path)
    here = Path(spec_folder or Path.cwd()).absolute()
    # Without "..", as it was written: resolve() would follow links.
    full = Path(posixpath.normpath(path.absolute().as_posix()))
    return full.relative_to(here).as_posix() if full.is_relative_to(here) else str(full)


def _identifier(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.\-]+", "_", text).strip("_") or "field"
    return name if re.match(r"[A-Za-z_]", name) else f"c_{name}"


def _plain(name: str) -> str:
    name = name.strip("-_.") or "log"
    return _flow(name)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=1 << 30, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
