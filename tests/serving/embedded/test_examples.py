"""Protocol sections 6 and 7.4: Classify, Regress and MultiInference on both ports."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

from serving.embedded import Server, ServerOptions
from serving.embedded.json_examples import read_body
from tests.serving.embedded.calls import Calls, refused
from tests.serving.embedded.conftest import models_config

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def example(**features) -> tf.train.Example:
    made = tf.train.Example()
    for name, value in features.items():
        target = made.features.feature[name]
        if isinstance(value, float):
            target.float_list.value.append(value)
        elif isinstance(value, int):
            target.int64_list.value.append(value)
        else:
            target.bytes_list.value.append(value)
    return made


class TestRest:
    def test_regress(self, calls):
        body = {"signature_name": "regress", "examples": [{"x": 1.5, "n": 1}, {"x": [0.25]}]}
        response = calls.post("all:regress", body)
        assert response.json() == {"results": [4.0, 0.5]}

    def test_classify(self, calls):
        body = {"signature_name": "classify", "examples": [{"x": 0.25, "s": "cat"}]}
        assert calls.post("all:classify", body).json() == {
            "results": [[["cat", 0.25], ["not cat", 0.75]]]
        }

    def test_classify_with_one_output(self, calls):
        examples = [{"x": 0.25, "s": {"b64": "Y2F0"}}]
        body = {"signature_name": "scores_only", "examples": examples}
        assert calls.post("all:classify", body).json() == {"results": [[["", 0.25], ["", 0.75]]]}
        body["signature_name"] = "labels_only"
        assert calls.post("all:classify", body).json() == {
            "results": [[["cat", 0.0], ["not cat", 0.0]]]
        }

    def test_context_lies_under_every_example(self, calls):
        body = {
            "signature_name": "regress",
            "context": {"n": 100, "x": 0.0},
            "examples": [{"x": 1.0}, {"x": 2.0, "n": 1}],
        }
        assert calls.post("all:regress", body).json() == {"results": [102.0, 5.0]}

    def test_kinds_of_features(self):
        features = b'"i": 3, "b": true, "f": 3.0, "e": 1e2, "n": NaN, "s": "\xff", "l": [1, 2]'
        body = b'{"examples": [{' + features + b"}]}"
        _, message = read_body("regress", body)
        features = message.example_list.examples[0].features.feature
        kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
        assert kinds == {
            "i": "int64_list",
            "b": "int64_list",
            "f": "float_list",
            "e": "float_list",
            "n": "float_list",
            "s": "bytes_list",
            "l": "int64_list",
        }
        assert features["s"].bytes_list.value[0] == b"\xff"
        assert list(features["l"].int64_list.value) == [1, 2]

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({}, "When method is regress, key 'examples' is expected and was not found"),
            ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
            ({"examples": []}, "'examples' value is an empty array"),
            ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
            (
                {"context": [], "examples": [{}]},
                "Example must be JSON object but got JSON Array",
            ),
            ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
            (
                {"examples": [{"x": [[1]]}]},
                "Feature: x has element with unexpected JSON type: Array",
            ),
            (
                {"examples": [{"x": {"a": 1}}]},
                "Feature: x has element with unexpected JSON type: Object",
            ),
            (
                {"examples": [{"x": [1.0, 2]}]},
                "Unexpected element type in feature: x expecting type: float",
            ),
            (
                {"examples": [{"x": ["a", 2]}]},
                "Unexpected element type in feature: x expecting type: bytes",
            ),
            (
                {"examples": [{"x": 2**63}]},
                "Feature: x has uint64_t element. Only int64_t is supported.",
            ),
            (
                {"signature_name": "nope", "examples": [{"x": 1.0}]},
                "No signature was found with the name: nope",
            ),
            (
                {"signature_name": "regress", "examples": [{"x": 3}]},
                "Data types don't match. Data type: int64 but expected type: float",
            ),
            (
                {"signature_name": "regress", "examples": [{"n": 3}]},
                "Feature: x (data type: float) is required but could not be found.",
            ),
            ({"signature_name": "pair", "examples": [{"x": 3.0}]}, "Expected one input Tensor."),
            (
                {"signature_name": "serving_default", "examples": [{"x": 3.0}]},
                "No regression inputs found in SignatureDef",
            ),
            (
                {"signature_name": "classify", "examples": [{"x": 3.0}]},
                "Expected one output Tensor.",
            ),
            (
                {"signature_name": "scores_only", "examples": [{"x": 3.0}]},
                "No regression outputs found in SignatureDef",
            ),
            (
                {"signature_name": "regress_wide", "examples": [{"x": 3.0}]},
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]",
            ),
            (
                {"signature_name": "regress_short", "examples": [{"x": 3.0}, {"x": 1.0}]},
                "Input batch size did not match output batch size",
            ),
            (
                {"signature_name": "regress_int", "examples": [{"x": 3.0}]},
                "Expected output Tensor of DT_FLOAT",
            ),
        ],
    )
    def test_regress_errors(self, calls, body, text):
        assert text in calls.error("all:regress", body)

    @pytest.mark.parametrize(
        ("signature", "text"),
        [
            ("serving_default", "No classification inputs found"),
            ("regress", "Expected classification signature outputs to contain at least one of"),
        ],
    )
    def test_classify_errors(self, calls, signature, text):
        body = {"signature_name": signature, "examples": [{"x": 1.0}]}
        assert text in calls.error("all:classify", body)


class TestGrpc:
    @staticmethod
    def regress_request(signature="regress", *examples):
        request = regression_pb2.RegressionRequest()
        request.model_spec.name = "all"
        request.model_spec.signature_name = signature
        request.input.example_list.examples.extend(examples)
        return request

    def test_regress(self, calls):
        request = self.regress_request("regress", example(x=1.5), example(x=1.0, n=3))
        response = calls.prediction.Regress(request, timeout=30)
        assert [r.value for r in response.result.regressions] == [3.0, 5.0]
        assert response.model_spec.version.value == 123
        assert response.model_spec.signature_name == "regress"

    def test_context(self, calls):
        request = self.regress_request()
        with_context = request.input.example_list_with_context
        with_context.context.CopyFrom(example(n=10))
        with_context.examples.append(example(x=1.0))
        response = calls.prediction.Regress(request, timeout=30)
        assert [r.value for r in response.result.regressions] == [12.0]

    def test_classify(self, calls):
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = "all"
        request.model_spec.signature_name = "classify"
        request.input.example_list.examples.append(example(x=0.25, s=b"cat"))
        response = calls.prediction.Classify(request, timeout=30)
        classes = response.result.classifications[0].classes
        assert [(c.label, c.score) for c in classes] == [("cat", 0.25), ("not cat", 0.75)]

    def test_empty_input(self, calls):
        request = self.regress_request()
        assert refused(lambda: calls.prediction.Regress(request, timeout=30)) == (
            "INVALID_ARGUMENT",
            "Input is empty.",
        )

    def test_method_name_check_is_off_unless_asked_for(self, everything):
        options = ServerOptions(models=models_config(all=everything), method_name_check=True)
        with Server(options) as server, Calls(server) as calls:
            request = self.regress_request("regress", example(x=1.0))
            code, text = refused(lambda: calls.prediction.Regress(request, timeout=30))
        assert code == "INVALID_ARGUMENT"
        assert "tensorflow/serving/regress" in text


class TestMultiInference:
    @staticmethod
    def request(*tasks):
        made = inference_pb2.MultiInferenceRequest()
        for model, signature, method in tasks:
            task = made.tasks.add(method_name=method)
            task.model_spec.name = model
            task.model_spec.signature_name = signature
        made.input.example_list.examples.append(example(x=0.25, s=b"cat"))
        return made

    def test_shared_input_tensor(self, tmp_path):
        # TF2 gives every signature a placeholder of its own; a TF1 export can share one.
        directory = tmp_path / "m" / "1"
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            inputs = tf.compat.v1.placeholder(tf.string, [None], name="inputs")
            lengths = tf.cast(tf.strings.length(inputs), tf.float32)
            builder = tf.compat.v1.saved_model.Builder(str(directory))
            info = tf.compat.v1.saved_model.build_tensor_info
            define = tf.compat.v1.saved_model.build_signature_def
            builder.add_meta_graph_and_variables(
                session,
                ["serve"],
                {
                    "r": define({"inputs": info(inputs)}, {"outputs": info(lengths)}, REGRESS),
                    "c": define(
                        {"inputs": info(inputs)},
                        {"scores": info(tf.stack([lengths, -lengths], 1))},
                        CLASSIFY,
                    ),
                },
            )
            builder.save()
        request = self.request(("m", "c", CLASSIFY), ("m", "r", REGRESS))
        size = float(request.input.example_list.examples[0].ByteSize())
        with Server.for_model(tmp_path / "m", "m") as server, Calls(server) as calls:
            response = calls.prediction.MultiInference(request, timeout=30)
        first, second = response.results
        assert first.model_spec.signature_name == "c"
        scores = [c.score for c in first.classification_result.classifications[0].classes]
        assert scores == [size, -size]
        assert [r.value for r in second.regression_result.regressions] == [size]

    @pytest.mark.parametrize(
        ("tasks", "code", "text"),
        [
            ([("", "r", REGRESS)], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            (
                [("all", "regress", REGRESS), ("half", "c", CLASSIFY)],
                "INVALID_ARGUMENT",
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            ),
            (
                [("all", "regress", REGRESS), ("all", "regress", REGRESS)],
                "INVALID_ARGUMENT",
                "Duplicate evaluation of signature: regress",
            ),
            (
                [("all", "nope", REGRESS)],
                "INVALID_ARGUMENT",
                "Requested signature not found in model graph: nope",
            ),
            (
                [("all", "regress", "tensorflow/serving/predict")],
                "UNIMPLEMENTED",
                "Unsupported signature method_name: tensorflow/serving/predict",
            ),
        ],
    )
    def test_errors(self, calls, tasks, code, text):
        request = self.request(*tasks)
        call = lambda: calls.prediction.MultiInference(request, timeout=30)  # noqa: E731
        assert refused(call) == (code, text)

    def test_examples_under_a_context_are_counted(self, calls):
        counter = calls.server.metrics.example_count_total
        before = counter.value("all")
        request = self.request(("all", "regress", REGRESS))
        rows = list(request.input.example_list.examples)
        request.input.example_list_with_context.examples.extend(rows * 3)
        calls.prediction.MultiInference(request, timeout=30)
        assert counter.value("all") == before + 3

    def test_one_task_counts_its_examples(self, calls):
        counter = calls.server.metrics.example_count_total
        before = counter.value("all")
        response = calls.prediction.MultiInference(
            self.request(("all", "regress", REGRESS)), timeout=30
        )
        values = [r.value for r in response.results[0].regression_result.regressions]
        np.testing.assert_allclose(values, [0.5])
        assert counter.value("all") == before + 1
