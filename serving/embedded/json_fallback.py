"""An iterative JSON parser with RapidJSON's dialect and error texts, for documents of any depth."""

import re

from serving.embedded.errors import invalid_argument

_WHITESPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_PLAIN_TEXT = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# Longer tokens first: "Inf" is the beginning of "Infinity".
_TOKENS = (
    ("true", True),
    ("false", False),
    ("null", None),
    ("NaN", float("nan")),
    ("-NaN", float("nan")),
    ("Infinity", float("inf")),
    ("-Infinity", float("-inf")),
    ("Inf", float("inf")),
    ("-Inf", float("-inf")),
)


def parse(text: str) -> object:
    """First complete value in the text; whatever follows is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT `JSON Parse error: <reason> at offset: <bytes>`.
    """
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str):
        self._text = text
        self._at = 0

    def document(self) -> object:
        self._skip()
        if self._at == len(self._text):
            raise invalid_argument("JSON Parse error: The document is empty")
        # Open containers, innermost last, each with the name its next value will get.
        open_containers: list[tuple[list | dict, str]] = []
        while True:
            value = self._scalar_or_opening()
            if value in ([], {}) and not self._closes_at_once(value):
                open_containers.append((value, self._next_name(value)))
                continue
            while True:
                if not open_containers:
                    return value
                container, name = open_containers.pop()
                if isinstance(container, dict):
                    container.setdefault(name, value)  # the first of repeated keys wins
                else:
                    container.append(value)
                if self._ends(container):
                    value = container
                    continue
                open_containers.append((container, self._next_name(container)))
                break

    def _fail(self, reason: str, at: int | None = None) -> Exception:
        offset = len(
            self._text[: self._at if at is None else at].encode("utf-8", "surrogateescape")
        )
        return invalid_argument(f"JSON Parse error: {reason} at offset: {offset}")

    def _skip(self) -> None:
        self._at = _WHITESPACE.match(self._text, self._at).end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _scalar_or_opening(self) -> object:
        self._skip()
        first = self._peek()
        if first == "[":
            self._at += 1
            return []
        if first == "{":
            self._at += 1
            return {}
        if first == '"':
            return self._string()
        for token, value in _TOKENS:
            if self._text.startswith(token, self._at):
                self._at += len(token)
                return value
        return self._number()

    def _closes_at_once(self, container: list | dict) -> bool:
        self._skip()
        if self._peek() != ("]" if isinstance(container, list) else "}"):
            return False
        self._at += 1
        return True

    def _next_name(self, container: list | dict) -> str:
        """Name and colon before an object's next value; nothing to read inside a list."""
        if isinstance(container, list):
            return ""
        self._skip()
        if self._peek() != '"':
            raise self._fail("Missing a name for object member.")
        name = self._string()
        self._skip()
        if self._peek() != ":":
            raise self._fail("Missing a colon after a name of object member.")
        self._at += 1
        return name

    def _ends(self, container: list | dict) -> bool:
        self._skip()
        mark = self._peek()
        if mark == ",":
            self._at += 1
            return False
        if isinstance(container, list):
            if mark != "]":
                raise self._fail("Missing a comma or ']' after an array element.")
        elif mark != "}":
            raise self._fail("Missing a comma or '}' after an object member.")
        self._at += 1
        return True

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            raise self._fail("Invalid value.")
        fraction, exponent = match.groups()
        if fraction == ".":
            raise self._fail("Miss fraction part in number.", match.end())
        if exponent is not None and not exponent[-1].isdigit():
            raise self._fail("Miss exponent in number.", match.end())
        literal = match.group()
        start, self._at = self._at, match.end()
        if fraction is None and exponent is None and len(literal) < 32:
            number = int(literal)
            if -(2**63) <= number < 2**64:
                return number
        decimal = float(literal)
        if decimal in (float("inf"), float("-inf")):
            raise self._fail("Number too big to be stored in double.", start)
        return decimal

    def _string(self) -> str:
        start = self._at
        self._at += 1
        parts = []
        while True:
            match = _PLAIN_TEXT.match(self._text, self._at)
            parts.append(match.group())
            self._at = match.end()
            mark = self._peek()
            if mark == '"':
                self._at += 1
                return "".join(parts)
            if mark == "\\":
                parts.append(self._escape())
            elif mark in ("", "\0"):
                raise self._fail("Missing a closing quotation mark in string.", start)
            else:
                raise self._fail("Invalid encoding in string.")

    def _escape(self) -> str:
        start = self._at
        mark = self._text[start + 1 : start + 2]
        if mark in _ESCAPES:
            self._at += 2
            return _ESCAPES[mark]
        if mark != "u":
            raise self._fail("Invalid escape character in string.")
        code = self._hex(start + 2)
        self._at = start + 6
        if 0xDC00 <= code <= 0xDFFF:
            raise self._fail("The surrogate pair in string is invalid.", start)
        if not 0xD800 <= code <= 0xDBFF:
            return chr(code)
        if not self._text.startswith("\\u", self._at):
            raise self._fail("The surrogate pair in string is invalid.", start)
        low = self._hex(self._at + 2)
        if not 0xDC00 <= low <= 0xDFFF:
            raise self._fail("The surrogate pair in string is invalid.", start)
        self._at += 6
        return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))

    def _hex(self, at: int) -> int:
        match = _HEX.match(self._text, at)
        if match is None:
            raise self._fail("Incorrect hex digit after \\u escape in string.")
        return int(match.group(), 16)
