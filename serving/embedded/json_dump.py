"""Short dumps of JSON values for error messages, and the names RapidJSON gives their types."""

import json

_LIMIT = 256


def type_name(value: object) -> str:
    """`Null`, `True`, `False`, `Object`, `Array`, `String` or `Number`."""
    if value is None:
        return "Null"
    if value is True or value is False:
        return str(value)
    return {dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def dump(value: object) -> str:
    """The value as JSON text, cut at about 256 characters, whatever its size or depth."""
    parts: list[str] = []
    length = 0
    # Pieces of text still to print, and values still to walk, last first.
    pending: list[tuple[bool, object]] = [(False, value)]
    while pending and length <= _LIMIT:
        is_text, item = pending.pop()
        if is_text:
            text = item
        elif isinstance(item, dict | list):
            pending.extend(reversed(list(_pieces(item))))
            continue
        else:
            text = _scalar(item)
        parts.append(text)
        length += len(text)
    text = "".join(parts)
    return text if len(text) <= _LIMIT and not pending else text[:_LIMIT] + "..."


def _pieces(container: dict | list) -> list[tuple[bool, object]]:
    # No container needs more pieces than the limit has characters.
    pieces: list[tuple[bool, object]] = []
    if isinstance(container, list):
        for item in container[:_LIMIT]:
            pieces += [(True, ","), (False, item)]
        return [(True, "["), *pieces[1:], (True, "]")]
    for name, item in list(container.items())[:_LIMIT]:
        pieces += [(True, ","), (True, f"{_scalar(name)}:"), (False, item)]
    return [(True, "{"), *pieces[1:], (True, "}")]


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value[: _LIMIT + 1], ensure_ascii=False)
    return json.dumps(value)
