"""Reads the JSON dialect TensorFlow Serving accepts: three parsers, fastest first.

1. orjson takes strict documents; it is used only when no object can have a repeated key.
2. The standard library's scanner takes NaN and Infinity, trailing text and bytes that are not
   UTF-8, and lets the first of repeated keys win.
3. `json_fallback`, iterative and slow, takes what is left: rare tokens, any depth of nesting, and
   the documents that are wrong, to say where.

Strings keep bytes that are not UTF-8 as surrogate escapes, so `encode_text` gives them back.
"""

import json
import re

import orjson

from serving.embedded.json_fallback import parse as parse_slowly

_BOM = b"\xef\xbb\xbf"
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_KEY_END = re.compile(rb'"[ \t\n\r]*:')
# What the standard library would read otherwise than RapidJSON: lone surrogates, integers beyond
# 64 bits, numbers beyond the range of a double.
_UNSAFE_FOR_STDLIB = re.compile(rb"\\u|\d{19}|[eE][+-]?\d{3}")


def parse(body: bytes) -> object:
    """The document as Python values; integers beyond 64 bits are floats.

    Raises:
        ServingError: INVALID_ARGUMENT `JSON Parse error: ...`.
    """
    if body.startswith(_BOM):
        body = body[len(_BOM) :]
    try:
        value = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError):
        return _parse_tolerantly(body)
    return value if _keys_are_unique(body, value) else _parse_tolerantly(body)


def encode_text(text: str) -> bytes:
    """Bytes of a parsed JSON string as they stood in the request."""
    return text.encode("utf-8", "surrogateescape")


def _parse_tolerantly(body: bytes) -> object:
    text = body.decode("utf-8", "surrogateescape")
    if not _UNSAFE_FOR_STDLIB.search(body):
        try:
            return _DECODER.raw_decode(text, _WHITESPACE.match(text).end())[0]
        except (ValueError, RecursionError):
            pass  # wrong, or too deep for recursion: the slow parser knows which
    return parse_slowly(text)


def _first_wins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        members = dict(reversed(pairs))
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins)


def _keys_are_unique(body: bytes, value: object) -> bool:
    """Whether the text has no more `name:` than the parsed value has members.

    Colons inside strings can only make the text count too high, which costs a second parse and
    is never wrong.
    """
    if not isinstance(value, dict):
        return True
    members = len(value)
    for child in value.values():
        if isinstance(child, dict):
            members += len(child)
        elif isinstance(child, list) and child and isinstance(child[0], dict):
            members += sum(len(row) for row in child if isinstance(row, dict))
    if body.count(b":") == members:
        return True
    return len(_KEY_END.findall(body)) == _count_members(value)


def _count_members(value: object) -> int:
    count, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            count += len(item)
            stack.extend(v for v in item.values() if isinstance(v, dict | list))
        else:
            stack.extend(v for v in item if isinstance(v, dict | list))
    return count
