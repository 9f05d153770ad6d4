"""YAML files, read and checked; a mistake is one line with file and key."""

from pathlib import Path
from typing import Any, TypeVar, get_args

import pydantic
import yaml

from pipeline.errors import PipelineError, nearest

Section = TypeVar("Section", bound=pydantic.BaseModel)


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of a YAML file; none for an empty one.

    Raises:
        PipelineError: not UTF-8, not YAML (with the line), or not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise PipelineError(f"{path}:{where} not valid YAML: {problem}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise PipelineError(f"{path}: expected a mapping of keys, got {type(tree).__name__}")
    return tree


def validate(section: type[Section], tree: Any, where: str) -> Section:
    """Checks a tree; raises PipelineError that names every mistake, each by its key."""
    try:
        return section.model_validate(tree)
    except pydantic.ValidationError as error:
        problems = "; ".join(_describe(item, section) for item in error.errors())
        raise PipelineError(f"{where}: {problems}") from error


def _describe(problem: Any, root: type[pydantic.BaseModel]) -> str:
    key, known = _resolve(root, [str(part) for part in problem["loc"]])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message}, got {problem['input']!r}"


def _resolve(section: type[pydantic.BaseModel], location: list[str]) -> tuple[str, list[str]]:
    """The key as a user writes it, and the keys of the innermost section on the way to it."""
    parts, inside = [], [section]
    for part in location:
        # Where a value may be one of several sections, pydantic adds the name of the one it tried.
        named = [model for model in inside if model.__name__ == part]
        if named:
            section = named[0]
            continue
        parts.append(part)
        if part in section.model_fields:
            inside = _models(section.model_fields[part].annotation)
            section = inside[0] if len(inside) == 1 and part != location[-1] else section
    return ".".join(parts), list(section.model_fields)


def _models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The sections that an annotation such as `dict[str, Range | list]` names."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
