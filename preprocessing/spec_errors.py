"""pydantic's findings as one line that names the key and, for a misspelt one, the nearest name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def near(name: str, known: Iterable[Any]) -> str:
    """`; did you mean 'x'?`, or the empty text if nothing is near."""
    match = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""


def one_line(error: ValidationError, root: type[BaseModel]) -> str:
    """The first problem of a document checked against `root`."""
    problems = error.errors()
    first = problems[0]
    path, model = _resolve(root, first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        return f"{path}: unknown key '{key}'{near(key, model.model_fields)}{more}"
    if first["type"] == "missing":
        return f"{path}: this key is needed{more}"
    if first["type"] == "union_tag_not_found":
        return f"{path}: 'kind' is needed{more}"
    if first["type"] == "union_tag_invalid":
        tag, tags = str(first["ctx"]["tag"]), re.findall(r"'(\w+)'", first["ctx"]["expected_tags"])
        return f"{path}.kind: unknown kind '{tag}'{near(tag, tags)}; one of {', '.join(tags)}"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"{path + ': ' if path else ''}{message}{given}{more}"


def _resolve(root: type[BaseModel], location: tuple[Any, ...]) -> tuple[str, type[BaseModel]]:
    """(the location as a user writes it, the model the last key belongs to)."""
    path, model, choices = "", root, [root]
    for part in location:
        tagged = [c for c in choices if _kind(c) == part]
        if tagged:
            model, choices = tagged[0], tagged
        elif isinstance(part, int):
            path += f"[{part}]"
        else:
            model = choices[0] if choices else model
            path += f".{part}" if path else str(part)
            field = model.model_fields.get(str(part))
            choices = _models(field.annotation) if field else []
    return path, model


def _kind(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return (get_args(field.annotation) or (None,))[0] if field else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in get_args(annotation) for m in _models(part)]
