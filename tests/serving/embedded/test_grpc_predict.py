"""Protocol sections 3, 7.2, 7.3 and 7.5 over gRPC, and the tensors that travel there."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from serving.embedded import Server, ServerOptions, tensor_proto
from serving.embedded.errors import ServingError
from tests.serving.embedded.calls import Calls, predict_request, refused
from tests.serving.embedded.conftest import models_config

FLOATS = np.array([1.0, 2.0], np.float32)


def refusal(calls, request):
    return refused(lambda: calls.prediction.Predict(request, timeout=30))


class TestModelSpec:
    def test_answer_names_version_and_effective_signature(self, calls):
        spec = calls.prediction.Predict(predict_request("half", x=FLOATS)).model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == (
            "half",
            2,
            "serving_default",
        )
        spec = calls.prediction.Predict(predict_request("half", version=1, x=FLOATS)).model_spec
        assert spec.version.value == 1

    def test_missing_and_unknown(self, calls):
        cases = {
            ("INVALID_ARGUMENT", "Missing ModelSpec"): predict_pb2.PredictRequest(),
            ("INVALID_ARGUMENT", "ModelSpec has no name specified."): predict_request("", "x"),
            (
                "NOT_FOUND",
                "Servable not found for request: Latest(nope)",
            ): predict_request("nope"),
            (
                "NOT_FOUND",
                "Servable not found for request: Specific(half, 7)",
            ): predict_request("half", version=7),
            (
                "FAILED_PRECONDITION",
                'Serving signature key "nope" not found.',
            ): predict_request("half", "nope", x=FLOATS),
        }
        for expected, request in cases.items():
            assert refusal(calls, request) == expected
        request = predict_request("half", x=FLOATS)
        request.model_spec.version_label = "canary"
        assert refusal(calls, request) == (
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: canary",
        )


class TestInputs:
    def test_sizes(self, calls):
        code, text = refusal(calls, predict_request("all", "pair", a=FLOATS))
        assert (code, text) == (
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). "
            "Sent extra: {}. Missing but required: {b}.",
        )
        code, text = refusal(calls, predict_request("half", x=FLOATS, z=FLOATS, a=FLOATS))
        assert text == (
            "input size does not match signature: 3!=1 len({a,x,z}) != len({x}). "
            "Sent extra: {a,z}. Missing but required: {}."
        )

    def test_names(self, calls):
        code, text = refusal(calls, predict_request("half", z=FLOATS))
        assert code == "INVALID_ARGUMENT"
        assert "Inputs contains invalid name" in text

    def test_dtype(self, calls):
        request = predict_request("all", "pair", a=FLOATS, b=np.array([1, 2], np.int64))
        assert refusal(calls, request) == (
            "INVALID_ARGUMENT",
            "Expects arg[1] to be float but int64 is provided",
        )

    def test_malformed_tensor(self, calls):
        proto = tf.make_tensor_proto(FLOATS)
        proto.tensor_content = b"123"
        assert refusal(calls, predict_request("half", x=proto)) == (
            "INVALID_ARGUMENT",
            "tensor parsing error: x",
        )

    def test_any_shape_that_the_graph_takes(self, calls):
        assert calls.predict(predict_request("half", x=np.float32(4)))["y"] == 4.0
        matrix = np.ones((2, 3), np.float32)
        assert calls.predict(predict_request("half", x=matrix))["y"].shape == (2, 3)
        code, text = refusal(calls, predict_request("all", "matmul", x=matrix[:, :2]))
        assert code == "INVALID_ARGUMENT"
        assert text.startswith("Matrix size-incompatible")

    def test_lookup_out_of_range(self, calls):
        code, text = refusal(calls, predict_request("all", "embed", ids=np.array([0, 7])))
        assert code == "INVALID_ARGUMENT"
        assert text.startswith("indices[1] = 7 is not in [0, 5)")

    def test_long_messages_are_cut(self, calls):
        text = np.array([b"x" * 5000], object)
        _, details = refusal(calls, predict_request("all", "number", s=text))
        assert len(details) == 1024 + len("...TRUNCATED")
        assert details.endswith("...TRUNCATED")

    def test_not_a_protobuf(self, calls):
        call = calls.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        code, text = refused(lambda: call(b"\xff\xff\xff\xff nonsense", timeout=30))
        assert (code, text) == ("INTERNAL", "Failed to parse tensorflow.serving.PredictRequest")

    def test_unknown_methods(self, calls):
        for path in (
            "/tensorflow.serving.SessionService/SessionRun",
            "/tensorflow.serving.PredictionService/Explain",
            "/grpc.health.v1.Health/Check",
        ):
            code, _ = refused(lambda path=path: calls.channel.unary_unary(path)(b"", timeout=30))
            assert code == "UNIMPLEMENTED"

    def test_large_messages(self, calls):
        big = np.arange(3_000_000, dtype=np.float32)  # 12 MB, beyond gRPC's own 4 MiB limit
        np.testing.assert_array_equal(
            calls.predict(predict_request("half", x=big))["y"], big / 2 + 2
        )

    def test_messages_beyond_the_limit(self, half):
        options = ServerOptions(models=models_config(half=half), max_request_bytes=10_000)
        with Server(options) as server, Calls(server) as calls:
            big = predict_request("half", x=np.zeros(10_000, np.float32))
            assert refusal(calls, big)[0] == "RESOURCE_EXHAUSTED"
            assert len(calls.predict(predict_request("half", x=FLOATS))["y"]) == 2

    def test_deadline(self, calls):
        request = predict_request("all", "slow", n=np.array([100_000]))
        with pytest.raises(grpc.RpcError) as caught:
            calls.prediction.Predict(request, timeout=0.1)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


class TestOutputs:
    def test_filter(self, calls):
        request = predict_request("all", "pair", a=FLOATS, b=FLOATS)
        assert set(calls.predict(request)) == {"sum", "difference"}
        request.output_filter.append("sum")
        assert set(calls.predict(request)) == {"sum"}
        request.output_filter.append("sum")
        assert refusal(calls, request) == (
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: sum",
        )
        request.output_filter[:] = ["nope"]
        assert refusal(calls, request) == (
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: nope "
            "Outputs expected to be in the set {difference,sum}.",
        )

    def test_typed_lists_unless_content_is_asked_for(self, calls, half):
        response = calls.prediction.Predict(predict_request("half", x=FLOATS))
        assert list(response.outputs["y"].float_val) == [2.5, 3.0]
        assert not response.outputs["y"].tensor_content
        options = ServerOptions(models=models_config(half=half), output_as_content=True)
        with Server(options) as server, Calls(server) as other:
            response = other.prediction.Predict(predict_request("half", x=FLOATS))
        assert response.outputs["y"].tensor_content == np.array([2.5, 3.0], "<f4").tobytes()
        assert not response.outputs["y"].float_val

    def test_signature_without_inputs(self, calls):
        assert calls.predict(predict_request("all", "constant"))["y"] == [1.0]

    def test_strings_and_scalars(self, calls):
        raw = np.array([b"\xff\x00", b"", "ü".encode()], object)
        got = calls.predict(predict_request("all", "text", s=raw))
        assert got["text"].tolist() == raw.tolist()
        assert calls.predict(predict_request("all", "total", x=FLOATS))["y"] == 3.0

    @pytest.mark.parametrize(
        "name",
        [
            "double",
            "int32",
            "int8",
            "int64",
            "uint32",
            "uint64",
            "bool",
            "half",
            "bfloat16",
            "uint16",
        ],
    )
    def test_dtypes_travel_both_ways(self, calls, name):
        dtype = tf.as_dtype(name)
        values = np.array([0, 1, 3], dtype.as_numpy_dtype)
        for proto in (tf.make_tensor_proto(values), tensor_proto.encode(values, dtype)):
            got = calls.predict(predict_request("all", f"echo_{name}", x=proto))["y"]
            np.testing.assert_array_equal(got, values)


class TestTensors:
    """TensorProto decoding, rule by rule."""

    @staticmethod
    def proto(dtype, shape, **fields):
        made = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **fields)
        for size in shape:
            made.tensor_shape.dim.add(size=size)
        return made

    def test_short_lists_repeat_their_last_element_and_empty_ones_are_zeros(self):
        short = self.proto(tf.float32, (4,), float_val=[1.0, 2.0])
        np.testing.assert_array_equal(tensor_proto.decode("x", short), [1, 2, 2, 2])
        empty = self.proto(tf.int64, (2, 2))
        np.testing.assert_array_equal(tensor_proto.decode("x", empty), np.zeros((2, 2)))
        words = self.proto(tf.string, (3,), string_val=[b"a"])
        assert tensor_proto.decode("x", words).tolist() == [b"a"] * 3
        assert tensor_proto.decode("x", self.proto(tf.string, (2,))).tolist() == [b"", b""]

    def test_string_content_is_lengths_then_bytes(self):
        long = b"y" * 200
        content = bytes([1, 0xC8, 0x01]) + b"x" + long
        words = self.proto(tf.string, (2,), tensor_content=content)
        assert tensor_proto.decode("x", words).tolist() == [b"x", long]

    @pytest.mark.parametrize(
        ("dtype", "shape", "fields"),
        [
            (tf.float32, (1,), {"float_val": [1.0, 2.0]}),
            (tf.string, (1,), {"string_val": [b"a", b"b"]}),
            (tf.float32, (-1,), {}),
            (tf.float32, (2,), {"tensor_content": b"1234"}),
            (tf.string, (2,), {"tensor_content": b"\x05a"}),
            (tf.string, (1,), {"tensor_content": b"\xff" * 20}),
            (tf.float32, (2**40,), {"float_val": [1.0]}),
            (tf.float32, (2**31, 2**31), {}),
            (tf.float32, (1,) * 255, {}),
            (tf.complex64, (1,), {"scomplex_val": [1.0]}),
            (tf.variant, (1,), {}),
            (tf.resource, (1,), {}),
        ],
    )
    def test_malformed(self, dtype, shape, fields):
        with pytest.raises(ServingError) as caught:
            tensor_proto.decode("x", self.proto(dtype, shape, **fields))
        assert caught.value.nested() == "INVALID_ARGUMENT: tensor parsing error: x"

    @pytest.mark.parametrize("name", ["complex64", "complex128", "int16", "uint8", "float16"])
    def test_typed_lists_round_trip(self, name):
        dtype = tf.as_dtype(name)
        values = np.array([[1, 2], [3, 4]], dtype.as_numpy_dtype)
        again = tensor_proto.decode("x", tensor_proto.encode(values, dtype))
        np.testing.assert_array_equal(again, values)
        np.testing.assert_array_equal(tf.make_ndarray(tensor_proto.encode(values, dtype)), values)


class TestDescriptions:
    def test_metadata(self, calls):
        response = calls.metadata("half")
        assert (response.model_spec.name, response.model_spec.version.value) == ("half", 2)
        assert response.model_spec.signature_name == ""
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(signatures)
        assert set(signatures.signature_def) == {"serving_default", "__saved_model_init_op"}

    def test_metadata_errors(self, calls):
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        call = lambda: calls.prediction.GetModelMetadata(request, timeout=30)  # noqa: E731
        assert refused(call) == ("INVALID_ARGUMENT", "Missing ModelSpec")
        request.model_spec.name = "half"
        assert refused(call) == (
            "INVALID_ARGUMENT",
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
        request.metadata_field.append("other")
        assert refused(call) == ("INVALID_ARGUMENT", "Metadata field other is not supported")
        request.metadata_field[:] = ["signature_def"]
        request.model_spec.name = "nope"
        assert refused(call)[0] == "NOT_FOUND"

    def test_status(self, calls):
        assert calls.states("half") == {2: "AVAILABLE", 1: "AVAILABLE"}
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "half"
        request.model_spec.version.value = 1
        response = calls.models.GetModelStatus(request, timeout=30)
        states = [(s.version, s.state, s.status.error_code) for s in response.model_version_status]
        assert states == [(1, 30, 0)]
        request.model_spec.version.value = 9
        assert refused(lambda: calls.models.GetModelStatus(request, timeout=30)) == (
            "NOT_FOUND",
            "Could not find version 9 of model half",
        )


def test_defaults_fill_inputs_that_were_not_sent(tmp_path):
    module = tf.Module()
    specs = {name: tf.TensorSpec([None], tf.float32, name=name) for name in "ab"}
    module.f = tf.function(lambda a, b: {"y": a + b}, autograph=False)
    concrete = module.f.get_concrete_function(**specs)
    directory = tmp_path / "m" / "1"
    tf.saved_model.save(module, str(directory), signatures={"serving_default": concrete})
    path = directory / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = message.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["b"].CopyFrom(tf.make_tensor_proto(np.array([5.0], np.float32)))
    path.write_bytes(message.SerializeToString())
    with Server.for_model(tmp_path / "m", "m") as server, Calls(server) as calls:
        assert calls.predict(predict_request("m", a=FLOATS))["y"].tolist() == [6.0, 7.0]
        assert refusal(calls, predict_request("m", b=FLOATS)) == (
            "INVALID_ARGUMENT",
            "input a not found in request and no default value provided.",
        )
        assert "Missing named input: b" in calls.error("m:predict", {"inputs": {"a": [1.0]}})
