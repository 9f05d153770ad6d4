"""Protocol section 4.1: the JSON dialect, and which parse errors it names."""

import json
import math
import random
import time

import pytest

from serving.embedded.errors import ServingError
from serving.embedded.json_dump import dump
from serving.embedded.json_fallback import parse as parse_slowly
from serving.embedded.json_reader import encode_text, parse

PARSERS = [parse, lambda body: parse_slowly(body.decode("utf-8", "surrogateescape"))]


def refusal(body: bytes) -> str:
    texts = []
    for parser in PARSERS:
        with pytest.raises(ServingError) as caught:
            parser(body)
        assert caught.value.code == "INVALID_ARGUMENT"
        texts.append(caught.value.message)
    assert texts[0] == texts[1]
    return texts[0]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    "value",
    [{"a": [1, -2.5, "x\n\u00e9\U0001f600", None, True, False, {}]}, [], {}, "s", 7, 1.5, [[[]]]],
)
def test_strict_documents(parser, value):
    assert parser(json.dumps(value).encode()) == value
    assert parser(json.dumps(value, ensure_ascii=False).encode()) == value


def test_fast_and_slow_parsers_agree_on_random_documents():
    draw = random.Random(5)

    def make(depth):
        kind = draw.randrange(8 if depth else 6)
        if kind < 6:
            return [1, -(10**15), 0.25, 'a:b"c', True, None][kind]
        if kind == 6:
            return [make(depth - 1) for _ in range(draw.randrange(4))]
        return {f"k{i}:": make(depth - 1) for i in range(draw.randrange(4))}

    for _ in range(200):
        document = {"top": make(4)}
        body = json.dumps(document, indent=draw.choice([None, 1])).encode()
        assert PARSERS[0](body) == PARSERS[1](body) == document


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("token", "value"),
    [("Infinity", math.inf), ("-Infinity", -math.inf), ("Inf", math.inf), ("-Inf", -math.inf)],
)
def test_infinities(parser, token, value):
    assert parser(f'{{"x": [{token}, 1]}}'.encode()) == {"x": [value, 1]}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("token", ["NaN", "-NaN"])
def test_not_a_number(parser, token):
    assert math.isnan(parser(f"[{token}]".encode())[0])


@pytest.mark.parametrize("token", ["nan", "Nan", "infinity", "+1", ".5", "'a'", "01", "undefined"])
def test_refused_tokens(token):
    assert refusal(f"[{token}]".encode()).startswith("JSON Parse error: ")


@pytest.mark.parametrize("parser", PARSERS)
def test_first_of_repeated_keys_wins(parser):
    assert parser(b'{"a": 1, "b": {"c": 1, "c": 2}, "a": [1, 2]}') == {"a": 1, "b": {"c": 1}}
    assert parser(b'{"instances": [{"a": 1, "a": 2}]}') == {"instances": [{"a": 1}]}
    assert parser(b'{"a": "\\":", "a": 3}') == {"a": '":'}
    assert parser(b'{"a": {"b": [{"c": 1 , "c" : 2}]}}') == {"a": {"b": [{"c": 1}]}}


@pytest.mark.parametrize("parser", PARSERS)
def test_what_follows_the_first_value_is_ignored(parser):
    assert parser(b'{"a": 1} garbage [') == {"a": 1}
    assert parser(b"[1]]") == [1]


def test_byte_order_mark_is_skipped():
    assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("parser", PARSERS)
def test_bytes_that_are_not_utf8_pass_through(parser):
    text = parser(b'{"a": "x\xff\xfey"}')["a"]
    assert encode_text(text) == b"x\xff\xfey"


@pytest.mark.parametrize("parser", PARSERS)
def test_integers_are_exact_over_64_bits_and_doubles_beyond(parser):
    values = [2**63 - 1, -(2**63), 2**64 - 1]
    assert parser(json.dumps(values).encode()) == values
    beyond = parser(b"[18446744073709551616, -9223372036854775809]")
    assert beyond == [2.0**64, -(2.0**63)]
    assert [type(number) for number in beyond] == [float, float]
    assert [type(number) for number in parser(b"[1.0, 1e2, 1]")] == [float, float, int]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400])
def test_number_beyond_double_is_an_error(number):
    text = refusal(f'{{"x": {number}}}'.encode())
    assert text == "JSON Parse error: Number too big to be stored in double. at offset: 6"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The document is empty"),
        (b" \n\t ", "The document is empty"),
        (b"hello", "Invalid value. at offset: 0"),
        (b"[1, ]", "Invalid value. at offset: 4"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[1", "Missing a comma or ']' after an array element. at offset: 2"),
        (b'{"a": 1 "b"}', "Missing a comma or '}' after an object member. at offset: 8"),
        (b"{1: 2}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'["abc', "Missing a closing quotation mark in string. at offset: 1"),
        (b'["a\nb"]', "Invalid encoding in string. at offset: 3"),
        (b'["\\x"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800x"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\udc00"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"// note\n{}", "Invalid value. at offset: 0"),
    ],
)
def test_error_texts(body, reason):
    assert refusal(body) == f"JSON Parse error: {reason}"


def test_offsets_count_bytes():
    assert refusal('["é", x]'.encode()).endswith("at offset: 7")


def test_half_a_million_brackets():
    deep = 500_000
    value = parse(b'{"x": ' + b"[" * deep + b"]" * deep + b', "inputs": 1}')
    assert value["inputs"] == 1
    assert dump(value).startswith('{"x":[[[[')
    assert "Missing a comma or ']'" not in refusal(b"[" * deep)
    assert refusal(b'{"a":' * deep).startswith("JSON Parse error: Invalid value.")


def test_a_megabyte_of_digits_is_quick():
    started = time.perf_counter()
    refusal(b"[" + b"1" * 1_000_000 + b"]")
    assert time.perf_counter() - started < 5.0


def test_dump_is_short_whatever_the_value():
    assert dump({"a": [1, 2.5, "x", None, True]}) == '{"a":[1,2.5,"x",null,true]}'
    assert dump([]) == "[]"
    assert len(dump(["x" * 1000] * 1000)) < 300
    assert len(dump(list(range(100_000)))) < 300
