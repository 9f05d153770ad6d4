"""Bodies of REST Classify and Regress: JSON features to serialized tf.Examples, and the answers."""

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import input_pb2

from serving.embedded import examples, json_writer
from serving.embedded.errors import invalid_argument
from serving.embedded.json_dump import type_name
from serving.embedded.json_elements import decode_base64, is_base64
from serving.embedded.json_predict import read_object, read_signature_name
from serving.embedded.json_reader import encode_text
from serving.embedded.servable import Servable, Work

_KINDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def read_body(method: str, body: bytes) -> tuple[str, input_pb2.Input]:
    """Effective signature name and examples of a body.

    Args:
        method: `classify` or `regress`, for the messages.
        body: the JSON text.

    Raises:
        ServingError: INVALID_ARGUMENT, texts of protocol section 6.
    """
    document = read_object(body)
    signature = read_signature_name(document)
    if "examples" not in document:
        raise invalid_argument(
            f"When method is {method}, key 'examples' is expected and was not found"
        )
    items = document["examples"]
    if not isinstance(items, list):
        raise invalid_argument("Expecting 'examples' value to be an list/array")
    if not items:
        raise invalid_argument("'examples' value is an empty array")
    message = input_pb2.Input()
    target = message.example_list.examples
    if "context" in document:
        with_context = message.example_list_with_context
        _fill_example(with_context.context, document["context"])
        target = with_context.examples
    for item in items:
        _fill_example(target.add(), item)
    return signature, message


def _fill_example(example: tf.train.Example, item: object) -> None:
    if not isinstance(item, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(item)}")
    features = example.features.feature
    for name, value in item.items():
        values = value if isinstance(value, list) else [value]
        # An escape that stands for a byte that is not UTF-8 has no place in a protobuf map key.
        feature = features[name.encode("utf-8", "replace").decode()]
        if values:
            kind, elements = _feature_values(name, values)
            getattr(feature, _KINDS[kind]).value.extend(elements)


def _feature_values(name: str, values: list[object]) -> tuple[str, list[object]]:
    kind, elements = "", []
    for value in values:
        element_kind, element = _element(name, value)
        kind = kind or element_kind
        if element_kind != kind:
            raise invalid_argument(
                f"Unexpected element type in feature: {name} expecting type: {kind}"
            )
        elements.append(element)
    return kind, elements


def _element(name: str, value: object) -> tuple[str, object]:
    if isinstance(value, str):
        return "bytes", encode_text(value)
    if isinstance(value, bool):
        return "int64", int(value)
    if isinstance(value, int):
        if value >= 2**63:
            raise invalid_argument(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        return "int64", value
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            return "float", float(np.float32(value))
    if is_base64(value):
        return "bytes", decode_base64(value["b64"])
    raise invalid_argument(
        f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
    )


def plan(
    method: str,
    servable: Servable,
    signature_name: str,
    message: input_pb2.Input,
    method_check: bool = False,
) -> Work:
    """Work of a REST Classify or Regress.

    Raises:
        ServingError: INVALID_ARGUMENT for a signature that does not fit.
    """
    signature = examples.find_signature(servable, signature_name)
    check = examples.check_classify if method == "classify" else examples.check_regress
    check(signature, method_check)
    rows = examples.serialized_examples(message)

    def finish_regress(arrays: dict[str, np.ndarray]) -> bytes:
        values = examples.regressions(signature, arrays, len(rows))
        return json_writer.results(json_writer.floats(np.array(values, dtype=np.float32)))

    def finish_classify(arrays: dict[str, np.ndarray]) -> bytes:
        entries = []
        for row in examples.classifications(signature, arrays, len(rows)):
            scores = json_writer.floats(np.array([score for _, score in row], dtype=np.float32))
            pairs = zip(row, scores, strict=True)
            texts = [f"[{json_writer.quote(label)}, {score}]" for (label, _), score in pairs]
            entries.append(f"[{', '.join(texts)}]")
        return json_writer.results(entries)

    finish = finish_classify if method == "classify" else finish_regress
    return examples.make_work(method.capitalize(), signature, rows, finish)
