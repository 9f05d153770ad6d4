"""Protocol sections 4.2 to 4.5 over HTTP: JSON to tensors, rows and columns, and the answers."""

import base64
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from serving.embedded import json_writer
from serving.embedded.errors import ServingError
from serving.embedded.signatures import TensorSpec

PREDICT = "all:predict"


def columns(calls, signature, value):
    response = calls.post(PREDICT, {"signature_name": signature, "inputs": value})
    assert response.status_code == 200, response.text
    return response.json()["outputs"]


def rows(calls, signature, value):
    response = calls.post(PREDICT, {"signature_name": signature, "instances": value})
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def refused(calls, signature, form, value, status=400):
    return calls.error(PREDICT, {"signature_name": signature, form: value}, status)


class TestBodies:
    def test_rows_and_columns_of_one_output_drop_its_name(self, calls):
        assert calls.post(PREDICT, {"instances": [1.0, 2.0]}).json() == {"predictions": [2.5, 3.0]}
        assert calls.post(PREDICT, {"inputs": [1.0, 2.0]}).json() == {"outputs": [2.5, 3.0]}

    def test_content_type_does_not_matter(self, calls):
        for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "nonsense"}):
            response = calls.http.post(
                "/v1/models/all:predict", content='{"inputs": [1]}', headers=headers
            )
            assert response.json() == {"outputs": [2.5]}

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ("", "JSON Parse error: The document is empty"),
            ("nonsense", "JSON Parse error: Invalid value. at offset: 0"),
            ("[1]", "JSON Value: [1] Is not object"),
            ('{"signature_name": 3, "inputs": 1}', "'signature_name' key must be a string value."),
            (
                '{"inputs": 1, "instances": [1]}',
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
                "exist",
            ),
            ('{"other": 1}', "Missing 'inputs' or 'instances' key"),
            ('{"instances": 5}', "Expecting 'instances' to be an list/array"),
            ('{"instances": []}', "No values in 'instances' array"),
            (
                '{"signature_name": "nope", "inputs": 1}',
                'Serving signature name: "nope" not found in signature def',
            ),
            (
                '{"signature_name": "constant", "inputs": {}}',
                "Failed to get input map for signature: constant",
            ),
        ],
    )
    def test_error_texts(self, calls, body, text):
        assert text in calls.error(PREDICT, body)

    def test_unknown_keys_are_ignored_and_an_empty_signature_is_the_default(self, calls):
        body = {"signature_name": "", "extra": {"deep": [1]}, "inputs": [4.0]}
        assert calls.post(PREDICT, body).json() == {"outputs": [4.0]}

    def test_bad_json_comes_before_unknown_model(self, calls):
        assert "JSON Parse error" in calls.error("nope:predict", "{", 400)
        body = {"signature_name": 3, "inputs": "wrong"}
        assert "'signature_name'" in calls.error("nope:predict", body, 400)
        body = {"inputs": ["wrong"]}
        assert calls.error("nope:predict", body, 404) == (
            "Servable not found for request: Latest(nope)"
        )

    def test_deep_nesting_is_refused_politely(self, calls):
        deep = 500_000
        body = '{"instances": ' + "[" * deep + "]" * deep + "}"
        assert "nested deeper than 254 levels" in calls.error(PREDICT, body)
        body = body.replace("instances", "inputs")
        assert "nested deeper than 254 levels" in calls.error(PREDICT, body)
        for unclosed in ('{"inputs": ' + "[" * deep, '{"inputs":' * deep, "[{" * deep):
            assert calls.error(PREDICT, unclosed).startswith("JSON Parse error: ")
        assert calls.post(PREDICT, '{"x": ' + "[" * deep + "]" * deep + ', "inputs": [2]}').json()


class TestElements:
    def test_floats(self, calls):
        sent = "[1435774380, 1.5, NaN, Infinity, -Infinity, 1e300, -1e300, 1e-60, 3]"
        response = calls.post("all:predict", f'{{"inputs": {sent}}}')
        got = response.json()["outputs"]
        assert got[0] == 1435774336 / 2  # rounded to float; the graph's + 2 is below its step
        assert got[1] == 2.75
        assert math.isnan(got[2])
        assert got[3:7] == [math.inf, -math.inf, math.inf, -math.inf]
        assert got[7:] == [2.0, 3.5]
        assert "NaN, Infinity, -Infinity" in response.text

    def test_double(self, calls):
        assert columns(calls, "echo_double", [1e300, 0.1, 7]) == [1e300, 0.1, 7.0]

    @pytest.mark.parametrize("value", ["1.0", True, None, {"a": 1}])
    @pytest.mark.parametrize("signature", ["serving_default", "echo_double"])
    def test_float_refuses(self, calls, signature, value):
        text = refused(calls, signature, "inputs", [value])
        assert text == (
            f"JSON Value: {json.dumps(value, separators=(',', ':'))} Type: {_type(value)} is not "
            f"of expected type: {'double' if 'double' in signature else 'float'}"
        )

    def test_int64_is_exact(self, calls):
        extremes = [2**63 - 1, -(2**63), 0, 9007199254740993]
        assert columns(calls, "echo_int64", extremes) == extremes
        assert rows(calls, "echo_int64", extremes) == extremes

    @pytest.mark.parametrize("token", ["1.0", "1e2", "9223372036854775808", '"1"', "true", "NaN"])
    def test_int64_refuses(self, calls, token):
        body = f'{{"signature_name": "echo_int64", "inputs": [{token}]}}'
        assert "is not of expected type: int64" in calls.error(PREDICT, body)

    @pytest.mark.parametrize(
        ("signature", "accepted", "refused_values"),
        [
            ("echo_int32", [-(2**31), 2**31 - 1], [2**31, -(2**31) - 1, 1.0, "1", True]),
            ("echo_uint32", [0, 2**32 - 1], [-1, 2**32, 1.0]),
            ("echo_uint64", [0, 2**64 - 1], [-1, 1.5]),
            ("echo_bool", [True, False], [0, 1, "true"]),
        ],
    )
    def test_ranges(self, calls, signature, accepted, refused_values):
        assert columns(calls, signature, accepted) == accepted
        for value in refused_values:
            expected = f"is not of expected type: {signature.removeprefix('echo_')}"
            assert expected in refused(calls, signature, "inputs", [value])

    def test_int8_narrows_what_int32_holds(self, calls):
        assert columns(calls, "echo_int8", [127, 128, -129, 256]) == [127, -128, 127, 0]

    def test_strings_and_base64(self, calls):
        raw = b"\x00\xff\xfe"
        encoded = base64.b64encode(raw).decode()
        body = {"signature_name": "text", "inputs": ["ü", {"b64": encoded}]}
        answer = calls.post(PREDICT, body).content
        assert '"text": ["ü", "\\u0000'.encode() + b"\xff\xfe" in answer
        assert b'"raw_bytes": [{"b64": "w7w="}, {"b64": "AP/+"}]' in answer

    def test_strings_that_are_not_utf8_come_back_as_they_went(self, calls):
        body = b'{"signature_name": "text", "inputs": ["a\xff\\u0001\\"\\\\"]}'
        response = calls.post(PREDICT, body)
        assert b'"a\xff\\u0001\\"\\\\"' in response.content

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (5, "JSON Value: 5 Type: Number is not of expected type: string"),
            (None, "JSON Value: null Type: Null is not of expected type: string"),
            ({"b64": "!"}, "Unable to base64 decode"),
            ({"b64": 5}, 'JSON Value: {"b64":5} not formatted correctly for base64 data'),
        ],
    )
    def test_string_refuses(self, calls, value, text):
        assert refused(calls, "text", "inputs", {"s": [value]}) == text

    @pytest.mark.parametrize(
        ("signature", "name"),
        [("echo_half", "half"), ("echo_bfloat16", "bfloat16"), ("echo_uint16", "uint16")],
    )
    def test_dtypes_json_cannot_fill(self, calls, signature, name):
        expected = f"Conversion of JSON Value: 1.5 to type: {name}"
        assert refused(calls, signature, "inputs", [1.5], status=501) == expected
        wrapped = refused(calls, signature, "instances", [1.5])
        assert f"Error: UNIMPLEMENTED: {expected}" in wrapped


def _type(value):
    return {"str": "String", "bool": "True", "NoneType": "Null"}.get(type(value).__name__, "Object")


class TestRows:
    def test_one_input_bare_or_named(self, calls):
        assert rows(calls, "", [{"x": 2.0}, {"x": 4.0}]) == [3.0, 4.0]
        assert rows(calls, "", [2.0, 4.0]) == [3.0, 4.0]

    def test_base64_object_is_a_value(self, calls):
        assert rows(calls, "lookup", [{"b64": "YQ=="}, "b", {"b64": "eg=="}]) == [1, 2, -1]

    def test_several_outputs_keep_their_names(self, calls):
        got = rows(calls, "pair", [{"a": 3.0, "b": 1.0}, {"b": 2.0, "a": 1.0}])
        assert got == [{"difference": 2.0, "sum": 4.0}, {"difference": -1.0, "sum": 3.0}]

    def test_shapes(self, calls):
        assert rows(calls, "", [[1.0, 2.0], [3.0, 4.0]]) == [[2.5, 3.0], [3.5, 4.0]]
        assert rows(calls, "", [{"x": []}, {"x": []}]) == [[], []]
        assert rows(calls, "", [[[1.0], [2.0]]]) == [[[2.5], [3.0]]]

    @pytest.mark.parametrize(
        ("signature", "value", "text"),
        [
            (
                "pair",
                [1.0],
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required as per tensorinfo_map",
            ),
            (
                "pair",
                [{"a": 1, "b": 2}, 3],
                "Expecting object but got list at item 1 of input list",
            ),
            ("", [1, {"x": 1}], "Expecting value/list but got object at item 1 of input list"),
            (
                "pair",
                [{"a": 1, "b": 2}, {"a": 1, "z": 2}],
                "Failed to process element: 1 key: z of 'instances' list. Error: "
                "INVALID_ARGUMENT: JSON object: does not have named input: z",
            ),
            (
                "triple",
                [{"b": 1}],
                "Failed to process element: 0 of 'instances' list. JSON object: "
                '{"b":1} keys must be equal to: a,b,c',
            ),
            (
                "",
                [[1, 2], [3]],
                "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
                "Expecting tensor size: 2 but got: 1",
            ),
            (
                "",
                [[[1, 2], [3, 4], [5, 6]], [[[1, 2], [3, 4], [5, 6]]]],
                "Expecting shape <[3,2]> but got: <[1,3,2]>",
            ),
            (
                "",
                [1, "x"],
                "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
                'Value: "x" Type: String is not of expected type: float',
            ),
            (
                "pair",
                [{"a": 1, "b": True}],
                "Failed to process element: 0 key: b of 'instances' list. Error: "
                "INVALID_ARGUMENT: JSON Value: true Type: True is not of expected type: float",
            ),
            ("", [[[1], [2, 3]]], "Encountered list at unexpected size: 2 at level: 1"),
        ],
    )
    def test_error_texts(self, calls, signature, value, text):
        assert text in refused(calls, signature, "instances", value)


class TestColumns:
    def test_one_input_bare_or_named(self, calls):
        assert columns(calls, "", {"x": [2.0]}) == [3.0]
        assert columns(calls, "", 2.0) == 3.0
        assert columns(calls, "lookup", {"b64": "YQ=="}) == 1

    def test_extra_keys_are_ignored(self, calls):
        assert columns(calls, "", {"x": [2.0], "other": "y"}) == [3.0]

    def test_batch_sizes_may_differ(self, calls):
        got = columns(calls, "pair", {"a": [1.0, 2.0], "b": 1.0})
        assert got == {"difference": [0.0, 1.0], "sum": [2.0, 3.0]}

    def test_zero_rows(self, calls):
        assert columns(calls, "", []) == []
        assert columns(calls, "", [[], []]) == [[], []]

    @pytest.mark.parametrize(
        ("signature", "value", "text"),
        [
            (
                "pair",
                [1, 2],
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            ),
            ("pair", {"a": 1}, "Missing named input: b in 'inputs' object."),
            (
                "",
                [[1, 2], [3]],
                "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
            ),
            ("", [1, [2]], "Encountered list at unexpected level: 1 expected < 1"),
            (
                "",
                [[1], 2],
                "JSON Value: 2 found at incorrect level: 1 in the JSON DOM. Expected at level: 2",
            ),
        ],
    )
    def test_error_texts(self, calls, signature, value, text):
        assert text in refused(calls, signature, "inputs", value)


class TestAnswers:
    def test_rank_zero_output(self, calls):
        assert columns(calls, "total", [1.0, 2.0]) == 3.0
        text = refused(calls, "total", "instances", [1.0])
        assert text == "Tensor name: y has no shape information"

    def test_outputs_of_different_batch_sizes(self, calls):
        assert columns(calls, "uneven", [1.0, 2.0]) == {"a": [1.0, 2.0], "b": [1.0]}
        text = refused(calls, "uneven", "instances", [1.0, 2.0])
        assert text == "Tensor name: b has inconsistent batch size: 1 expecting: 2"

    def test_shape_is_not_checked_but_the_graph_may_refuse(self, calls):
        assert columns(calls, "", [[1.0], [2.0]]) == [[2.5], [3.0]]
        text = refused(calls, "matmul", "inputs", [[1.0, 2.0]])
        assert text.startswith("Matrix size-incompatible: In[0]: [1,2], In[1]: [3,1]")
        assert "[[{{" in text
        assert refused(calls, "embed", "instances", [0, 7]).startswith(
            "indices[1] = 7 is not in [0, 5)"
        )
        text = refused(calls, "number", "instances", ["1", "abc"])
        assert "StringToNumberOp could not correctly convert string: abc" in text
        text = refused(calls, "pair", "inputs", {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]})
        assert text.startswith("Incompatible shapes: [2] vs. [3]")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (9e6, "9e+06"),
            (999999.0, "999999.0"),
            (0.00003, "3e-05"),
            (555557.5, "555557.5"),
            (1 / 3, "0.333333343"),
            (3.0, "3.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (np.nan, "NaN"),
            (np.inf, "Infinity"),
            (-np.inf, "-Infinity"),
            (0.1, "0.1"),
            (16777216.0, "16777216.0"),
        ],
    )
    def test_float_texts(self, value, text):
        assert json_writer.floats(np.array([value], np.float32)) == [text]

    def test_double_texts(self):
        texts = json_writer.floats(np.array([1 / 3, 0.1, 1e300, 2.5]))
        assert texts == ["0.33333333333333331", "0.1", "1e+300", "2.5"]

    def test_every_float_reads_back_as_itself(self):
        draw = np.random.default_rng(0)
        values = draw.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
        values = values[np.isfinite(values)]
        texts = json_writer.floats(values)
        again = np.array([float(text) for text in texts]).astype(np.float32)
        np.testing.assert_array_equal(again, values)
        assert all("." in text or "e" in text for text in texts)

    def test_row_layout(self, calls):
        response = calls.post(PREDICT, {"instances": [1.0, 2.0]})
        assert response.text == '{\n    "predictions": [2.5, 3.0\n    ]\n}'

    def test_no_rows_is_an_empty_list(self):
        spec = TensorSpec("y", "y:0", tf.float32, (-1,), np.dtype(np.float32))
        assert json.loads(json_writer.predictions([spec], [np.zeros(0, np.float32)])) == {
            "predictions": []
        }
        two = [np.zeros((0, 3), np.float32)] * 2
        assert json.loads(json_writer.predictions([spec, spec], two)) == {"predictions": []}

    def test_dtype_json_cannot_carry(self):
        spec = TensorSpec("y", "y:0", tf.float16, (-1,), np.dtype(np.float16))
        with pytest.raises(ServingError) as caught:
            json_writer.outputs([spec], [np.zeros(1, np.float16)])
        assert caught.value.message == "Failed to write JSON value for tensor type: half"

    def test_empty_axes_keep_their_nesting(self):
        spec = TensorSpec("y", "y:0", tf.float32, None, np.dtype(np.float32))
        text = json_writer.outputs([spec], [np.zeros((2, 0, 3), np.float32)])
        assert json.loads(text) == {"outputs": [[], []]}
        text = json_writer.predictions([spec], [np.zeros((2, 1, 0), np.float32)])
        assert json.loads(text) == {"predictions": [[[]], [[]]]}
