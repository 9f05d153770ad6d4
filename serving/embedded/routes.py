"""TensorFlow Serving's URL patterns: which API, model, version or label a path means."""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from serving.embedded.errors import invalid_argument

_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_MODEL = r"/v1/models/(?P<name>[^/:]+)" + _VERSION
_RUN = re.compile(_MODEL + r":(?P<verb>predict|classify|regress)", re.IGNORECASE)
_DESCRIBE = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE)
_NO_MODEL = re.compile(r"/v1/models", re.IGNORECASE)
_VERBS = ("predict", "classify", "regress")
_INT64_MAX = 2**63 - 1


class VersionOverflowError(ValueError):
    """A version number beyond int64: the one 400 whose body is empty."""


@dataclass(frozen=True)
class Route:
    """A matched path. `api` is `predict`, `classify`, `regress`, `status` or `metadata`."""

    api: str
    name: str
    version: int | None = None
    label: str | None = None


def match(method: str, target: str) -> Route:
    """The route of a request target (path and query string as received).

    Raises:
        ServingError: INVALID_ARGUMENT for a path or method that is no route.
        VersionOverflowError: the version does not fit int64.
    """
    if method == "POST":
        found = _RUN.fullmatch(target)
        if found and found["verb"] in _VERBS:
            return _route(found["verb"], found)
    elif method == "GET":
        if _NO_MODEL.fullmatch(target):
            raise invalid_argument("Missing model name in request.")
        found = _DESCRIBE.fullmatch(target)
        if found and found["metadata"] in (None, "/metadata"):
            return _route("metadata" if found["metadata"] else "status", found)
    raise invalid_argument(f"Malformed request: {method} {target}")


def _route(api: str, found: re.Match[str]) -> Route:
    version = None
    if found["version"] is not None:
        # Leading zeros aside, more than 19 digits cannot fit; int() of a huge text is costly.
        digits = found["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) > _INT64_MAX:
            raise VersionOverflowError(found["version"])
        version = int(digits)
    label = None if found["label"] is None else _decode(found["label"])
    return Route(api, _decode(found["name"]), version, label)


def _decode(part: str) -> str:
    return unquote_to_bytes(part).decode("utf-8", "replace")
