"""Time stamps as text to parts of time: one arithmetic for NumPy arrays and TensorFlow tensors.

Formats: `unix` (seconds), `unix_ms`, `iso` (`2024-05-01`, `2024-05-01 13:45`, `...:59`, space or
T) or a fixed-width pattern of %Y %y %m %d %H %M %S, such as Avazu's `%y%m%d%H`. Text in any other
form counts as missing. Civil-date arithmetic: Howard Hinnant, "chrono-Compatible Low-Level Date
Algorithms".
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.schema import SpecError

_WIDTH = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_UNIX = {"unix": 1, "unix_ms": 1000}
_ISO = "%Y-%m-%d %H:%M:%S"
UNIX_PATTERN = r"^-?\d{1,15}(\.\d*)?$"


def layout(form: str) -> tuple[str, list[tuple[str, int, int]]]:
    """(regular expression of valid text, [(directive, offset, width)]) of a fixed-width format.

    Raises SpecError for a directive of no fixed width.
    """
    pattern, parts, offset, at = "^", [], 0, 0
    form = _ISO if form == "iso" else form
    while at < len(form):
        if form[at] == "%":
            directive = form[at + 1 : at + 2]
            if directive not in _WIDTH:
                raise SpecError(
                    f"time format '{form}': '%{directive}' is not one of %Y%y%m%d%H%M%S"
                )
            parts.append((directive, offset, _WIDTH[directive]))
            pattern += rf"\d{{{_WIDTH[directive]}}}"
            offset, at = offset + _WIDTH[directive], at + 2
        else:
            pattern += "[ T]" if form == _ISO and form[at] == " " else re.escape(form[at])
            offset, at = offset + 1, at + 1
    return pattern + "$", parts


def seconds_of(values: dict[str, Any]) -> Any:
    """Seconds since 1970 from integer parts (arrays or tensors)."""
    year = values.get("Y")
    if year is None:
        short = values.get("y", 70)
        year = 1900 + short + 100 * ((168 - short) // 100)
    month, day = values.get("m", 1), values.get("d", 1)
    days = days_from_civil(year, month, day)
    return days * 86400 + values.get("H", 0) * 3600 + values.get("M", 0) * 60 + values.get("S", 0)


def days_from_civil(year: Any, month: Any, day: Any) -> Any:
    """Days since 1970-01-01 of a Gregorian date."""
    year = year - (14 - month) // 12
    era = year // 400
    year_of_era = year - era * 400
    shifted = (month + 9) % 12
    day_of_year = (153 * shifted + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146097 + day_of_era - 719468


def part_of(seconds: Any, part: str) -> Any:
    """The integer that stands for `part`; weekday 0 is Monday, date is yyyymmdd."""
    days = seconds // 86400
    if part == "hour":
        return seconds % 86400 // 3600
    weekday = (days + 3) % 7
    if part in ("weekday", "weekend"):
        return weekday if part == "weekday" else weekday // 5
    shifted = days + 719468
    era = shifted // 146097
    day_of_era = shifted - era * 146097
    leap = day_of_era // 1460 - day_of_era // 36524 + day_of_era // 146096
    year_of_era = (day_of_era - leap) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    month = (march_month + 2) % 12 + 1
    year = year_of_era + era * 400 + march_month // 10
    if part == "date":
        return year * 10000 + month * 100 + day
    return {"day": day, "month": month, "year": year}[part]


def part_texts(texts: pa.Array, field: Any) -> pa.Array:
    """Time stamps -> the part as text, empty where the stamp is missing or malformed."""
    offset = round(field.utc_offset_hours * 3600)
    if field.format in _UNIX:
        valid = pc.match_substring_regex(texts, UNIX_PATTERN)
        whole = pc.replace_substring_regex(pc.if_else(valid, texts, "0"), r"\.\d*$", "")
        seconds = _int64(whole) // _UNIX[field.format]
    else:
        if field.format == "iso":
            length = pc.utf8_length(texts)
            texts = pc.if_else(
                pc.equal(length, 10),
                pc.binary_join_element_wise(texts, " 00:00:00", ""),
                pc.if_else(
                    pc.equal(length, 16), pc.binary_join_element_wise(texts, ":00", ""), texts
                ),
            )
        pattern, parts = layout(field.format)
        valid = pc.match_substring_regex(texts, pattern)
        safe = pc.if_else(valid, texts, "0" * sum(width for _, _, width in parts) + "0" * 20)
        values = {
            name: _int64(pc.utf8_slice_codeunits(safe, at, at + width)) for name, at, width in parts
        }
        seconds = seconds_of(values)
    part = pa.array(part_of(seconds + offset, field.part), pa.int64())
    return pc.if_else(valid, pc.cast(part, pa.string()), "")


def _int64(texts: pa.Array) -> np.ndarray:
    return pc.cast(texts, pa.int64()).to_numpy(zero_copy_only=False)
