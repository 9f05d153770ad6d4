"""What a column of text seems to be: label, time, number, category or several values in one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.timeparts import layout

_NUMBER = re.compile(r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")
_INTEGER = re.compile(r"^-?\d+$")
_LABELS = r"^(is_?)?(label|click(ed|s)?|target|y|convert(ed)?|conversion|purchased?|bought|buy)$"
_GRADES = r"^(rating|score|stars|grade|label|target|y)$"
_ACTIONS = r"^(action|event|event_type|outcome|result|response)$"
_YES = {"click", "clicked", "buy", "purchase", "conversion", "yes", "y", "t", "positive"}
_ID = r"(^|_|\b)(id|code|zip|key|hash|no|nr|number|user|item|ad|campaign|category|type)s?$|[a-z]Id$"
_TIME = r"(^|_)(time|ts|timestamp|date|day|hour|datetime|at|when|stamp)($|_)|[a-z](Time|Date|At)$"
_SEPARATORS = ("|", ";", ", ", ",", " ")
_TIME_FORMATS = (
    ("%Y-%m-%d %H:%M:%S", "iso"),
    ("%Y-%m-%d %H:%M", "iso"),
    ("%Y-%m-%dT%H:%M", "iso"),
    ("%Y-%m-%d", "iso"),
    ("%Y-%m-%dT%H:%M:%SZ", None),
    ("%Y/%m/%d %H:%M:%S", None),
    ("%Y/%m/%d", None),
    ("%d.%m.%Y", None),
    ("%d/%m/%Y", None),
    ("%m/%d/%Y", None),
)
_PACKED_FORMATS = ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M%S", "%y%m%d%H", "%y%m%d")
_RANGES = {"Y": (1970, 2100), "m": (1, 12), "d": (1, 31), "H": (0, 23), "M": (0, 59), "S": (0, 59)}
_UNIX_FROM, _UNIX_TO = 6.3e8, 2.2e9  # 1990 to 2039
_FEW = 20
_CHECKED = 2000
_EXACT = 1 << 24
_MANY_VALUES = 16


@dataclass(frozen=True)
class Column:
    """A column of a sample: its values with their counts (the missing ones apart)."""

    name: str
    rows: int
    missing: int
    counts: dict[str, int]
    separator: str | None = None

    @classmethod
    def of(cls, name: str, texts: pa.ChunkedArray, separator: str | None = None) -> Column:
        """From a column of texts; `separator` if the source itself holds lists."""
        found = pc.value_counts(texts.combine_chunks())
        values, counts = found.field(0).to_pylist(), found.field(1).to_pylist()
        table = dict(zip(values, counts, strict=True))
        missing = table.pop("", 0)
        return cls(name, len(texts), missing, table, separator)

    def without(self, missing: Sequence[str]) -> Column:
        """The same column with some texts taken as missing."""
        kept = {text: count for text, count in self.counts.items() if text not in missing}
        gone = sum(self.counts.values()) - sum(kept.values())
        return Column(self.name, self.rows, self.missing + gone, kept, self.separator)

    @property
    def filled(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    @cached_property
    def is_number(self) -> bool:
        """True if every value is a number (and there is one)."""
        return bool(self.counts) and all(_NUMBER.match(text) for text in self.counts)

    @cached_property
    def is_integer(self) -> bool:
        """True if every value is written as an integer."""
        return bool(self.counts) and all(_INTEGER.match(text) for text in self.counts)

    def named(self, pattern: str) -> bool:
        """True if the column's name matches."""
        return re.search(pattern, self.name, re.I if pattern is not _ID else 0) is not None


@dataclass(frozen=True)
class Guess:
    """The fields a column makes (without their names), why, and whether they are of use."""

    fields: list[dict[str, Any]]
    why: str
    use: bool = True


def label_rank(column: Column) -> float:
    """How much a column looks like the label; 0 is not at all."""
    values = {text.lower() for text in column.counts}
    binary = len(values) == 2 and column.is_number
    plain = (
        values <= {"0", "1", "0.0", "1.0"} or values == {"true", "false"} or values == {"-1", "1"}
    )
    if len(values) < 2 or column.separator:
        return 0
    if column.named(_LABELS) and (plain or binary):
        return 5
    if column.named(_ACTIONS) and len(values) <= _FEW and values & _YES:
        return 4
    if column.named(f"{_LABELS}|{_GRADES}") and len(values) <= _FEW and column.is_number:
        return 3
    if column.named(_LABELS) and len(values) == 2:
        return 2
    return 1 if plain and len(values) == 2 else 0


def label_rule(column: Column) -> tuple[dict[str, Any], str]:
    """The label's rule beside its column, and a comment on it."""
    texts = sorted(column.counts)
    drop = {"drop": [""]} if column.missing else {}
    lower = {text.lower() for text in texts}
    if lower <= {"0", "1", "0.0", "1.0"} or lower == {"true", "false"}:
        positive = sum(n for t, n in column.counts.items() if t.lower() in ("1", "1.0", "true"))
        rule, why = {}, f"{positive / max(column.filled, 1):.1%} positive"
    elif column.is_number:
        numbers = sorted(map(float, texts))
        middle = (numbers[0] + numbers[-1]) / 2
        middle = int(middle) if middle.is_integer() else middle
        rule = {"positive": {"above": middle}}
        why = f"values {numbers[0]:g} to {numbers[-1]:g}: is this the right limit?"
    else:
        yes = [text for text in texts if text.lower() in _YES] or texts[-1:]
        rule = {"positive": {"values": yes}}
        why = f"among {', '.join(map(repr, texts[:6]))}: are these the positive ones?"
    return {**rule, **drop}, why.replace("\n", " ")


def guess(column: Column, form: str = "csv") -> Guess:
    """The fields of one column."""
    distinct = len(column.counts)
    if distinct <= 1 and not (distinct and column.missing):
        what = f"always {next(iter(column.counts))!r}" if distinct else "always missing"
        return Guess([{"kind": "categorical"}], f"left out: {what}", use=False)
    seen = f"{distinct:,} values"
    if column.missing:
        seen += f", {column.missing / column.rows:.1%} missing"
    if column.separator:
        return _several(column, column.separator)
    if form == "libfm":
        return Guess([{"kind": "categorical"}], seen)
    time = time_format(column)
    if time:
        parts = ["hour", "weekday"] if _has_hours(column, time) else ["weekday"]
        fields = [
            {"name_hint": f"{column.name}_{p}", "kind": "time", "part": p, "format": time}
            for p in parts
        ]
        return Guess(fields, f"time, such as {next(iter(column.counts))!r}; {seen}")
    if column.is_number and not _is_code(column):
        return _number(column, seen)
    for separator in _SEPARATORS:
        if not column.is_number and _splits(column, separator):
            return _several(column, separator)
    if distinct > 0.9 * column.filled and column.filled >= 100:
        return Guess(
            [{"kind": "categorical"}], f"left out: {seen}, nearly every row its own", False
        )
    if column.is_integer and distinct > _FEW and not column.named(_ID):
        seen += "; numeric if it is an amount"
    return Guess([{"kind": "categorical"}], seen)


def time_format(column: Column) -> str | None:
    """The time format in the spec's words if the values are times."""
    values = list(column.counts)[:_CHECKED]
    if not values:
        return None
    hinted = column.named(_TIME)
    if column.is_number:
        numbers = [float(value) for value in values]
        low, high = min(numbers), max(numbers)
        if all(re.match(r"^\d{9,10}(\.\d*)?$", v) for v in values):
            id_like = column.named(_ID) or len(values) <= _FEW
            if (hinted or not id_like) and low > _UNIX_FROM and high < _UNIX_TO:
                return "unix"
        elif all(re.match(r"^\d{12,13}$", v) for v in values) and hinted:
            return "unix_ms"
        packed = _PACKED_FORMATS if hinted and column.is_integer else ()
        return next((form for form in packed if _all_times(values, form)), None)
    for pattern, form in _TIME_FORMATS:
        if _all_times(values, pattern):
            return form or pattern
    return None


def _all_times(values: list[str], form: str) -> bool:
    pattern, parts = layout(form)
    whole = re.compile(pattern)
    for value in values:
        if not whole.match(value):
            return False
        for directive, at, width in parts:
            low, high = _RANGES.get(directive, (0, 99))
            if not low <= int(value[at : at + width]) <= high:
                return False
    return True


def _has_hours(column: Column, form: str) -> bool:
    return "H" in form or form.startswith("unix") or any(len(t) > 10 for t in column.counts)


def _is_code(column: Column) -> bool:
    """True for integers that name something rather than measure it (-1 often means none)."""
    if not column.is_integer:
        return False
    texts = list(column.counts)
    numbers = [int(text) for text in texts]
    if any(len(t) > 1 and t[0] == "0" for t in texts) or max(map(abs, numbers)) > _EXACT:
        return True
    if column.named(_ID) or len(texts) <= _FEW:
        return True
    return min(n for n in [*numbers, _EXACT] if n != -1) >= 1000 or not _skewed(column)


def _middle(column: Column) -> float:
    """The median."""
    half = column.filled / 2
    values = sorted((float(text), count) for text, count in column.counts.items())
    for value, count in values:
        half -= count
        if half <= 0:
            return value
    return values[-1][0]


def _skewed(column: Column) -> bool:
    """True for numbers that are mostly small, as counts and prices are, and ids are not."""
    return max(map(float, column.counts)) > 10 * max(abs(_middle(column)), 1.0)


def _number(column: Column, seen: str) -> Guess:
    values = [float(text) for text in column.counts]
    transform = "log1p" if _skewed(column) else "z_score"
    why = f"{min(values):g} to {max(values):g}, middle {_middle(column):g}; {seen}"
    if column.is_integer:
        why += "; categorical if it is an id"
    return Guess([{"kind": "numeric", "transform": transform}], why)


def _splits(column: Column, separator: str) -> bool:
    """True if cutting at `separator` leaves far fewer values, so that they are what repeats."""
    holding = sum(count for text, count in column.counts.items() if separator in text)
    if holding < max(2, 0.05 * column.filled):
        return False
    wholes = list(column.counts)[:_CHECKED]
    parts = {part for whole in wholes for part in whole.split(separator) if part}
    strict = separator in (" ", ",", ", ")
    if strict and any(not re.match(r"^[\w\-]+$", part) for part in parts):
        return False
    return len(parts) * (2 if strict else 1) < len(wholes)


def _several(column: Column, separator: str) -> Guess:
    parts: Counter[str] = Counter()
    longest = 1
    for text, count in column.counts.items():
        values = [part for part in text.split(separator) if part]
        longest = max(longest, len(values))
        parts.update(dict.fromkeys(values, count))
    why = f"{len(parts):,} values, up to {longest} in a row"
    if longest > _MANY_VALUES:
        why += f": only the first {_MANY_VALUES} are kept"
    field = {"kind": "multivalued", "separator": separator}
    return Guess([{**field, "max_values": min(longest, _MANY_VALUES)}], why)
