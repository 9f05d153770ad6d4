"""Classify, Regress and MultiInference: what runs on serialized tf.Examples."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    regression_pb2,
)

from serving.embedded.errors import invalid_argument
from serving.embedded.predict import fill_spec
from serving.embedded.servable import Servable, Work
from serving.embedded.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_INPUT = "inputs"
_CLASSES, _SCORES, _OUTPUT = "classes", "scores", "outputs"


def serialized_examples(message: input_pb2.Input) -> np.ndarray:
    """Serialized tf.Examples of an Input, each under its shared context if there is one.

    Returns:
        Object array (B,) of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT `Input is empty.`
    """
    kind = message.WhichOneof("kind")
    if kind == "example_list_with_context":
        # Concatenated messages merge when parsed: the example's features win over the context's.
        context = message.example_list_with_context.context.SerializeToString()
        examples = message.example_list_with_context.examples
        rows = [context + example.SerializeToString() for example in examples]
    else:
        rows = [example.SerializeToString() for example in message.example_list.examples]
    if not rows:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def count_examples(message: input_pb2.Input) -> int:
    """Examples of an Input of either kind, without decoding them."""
    kind = message.WhichOneof("kind")
    return len(getattr(message, kind).examples) if kind else 0


def find_signature(servable: Servable, name: str) -> Signature:
    """The signature of that name, the default one for an empty name.

    Raises:
        ServingError: INVALID_ARGUMENT for an unknown one.
    """
    signature = servable.model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")
    return signature


def _check_method(signature: Signature, expected: str, enforce: bool) -> None:
    if enforce and signature.method_name != expected:
        raise invalid_argument(
            f"Expected {expected.rpartition('/')[2]} signature method_name to be {expected}. "
            f"Was: {signature.method_name}"
        )


def _only_input(signature: Signature, kind: str) -> TensorSpec:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    spec = signature.inputs.get(_INPUT)
    if spec is None:
        raise invalid_argument(f"No {kind} inputs found in SignatureDef: {signature.name}")
    return spec


def check_regress(signature: Signature, method_check: bool = False) -> None:
    """Refuse signatures that cannot answer Regress.

    Raises:
        ServingError: INVALID_ARGUMENT saying what does not fit.
    """
    _check_method(signature, REGRESS_METHOD, method_check)
    _only_input(signature, "regression")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _OUTPUT not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature.name}")


def check_classify(signature: Signature, method_check: bool = False) -> None:
    """Refuse signatures that cannot answer Classify.

    Raises:
        ServingError: INVALID_ARGUMENT saying what does not fit.
    """
    _check_method(signature, CLASSIFY_METHOD, method_check)
    _only_input(signature, "classification")
    count = len(signature.outputs)
    if count not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {count}")
    known = {_CLASSES, _SCORES} & set(signature.outputs)
    if not known:
        raise invalid_argument(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature.name}'
        )
    if count == 2 and len(known) != 2:
        raise invalid_argument(
            f'Expected classification signature outputs to be "{_CLASSES}" and "{_SCORES}". '
            f"Signature was: {signature.name}"
        )


def regressions(signature: Signature, arrays: dict[str, np.ndarray], rows: int) -> list[float]:
    """One number per example.

    Raises:
        ServingError: INVALID_ARGUMENT for an output of the wrong shape, dtype or batch size.
    """
    array = arrays[_OUTPUT]
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(array.shape)}"
        )
    if array.shape[0] != rows:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {rows} vs. {array.shape[0]}"
        )
    if signature.outputs[_OUTPUT].dtype != tf.float32:
        raise invalid_argument("Expected output Tensor of DT_FLOAT")
    return array.ravel().tolist()


def classifications(
    signature: Signature, arrays: dict[str, np.ndarray], rows: int
) -> list[list[tuple[bytes, float]]]:
    """Label and score of every class, per example; label "" and score 0.0 where not given.

    Raises:
        ServingError: INVALID_ARGUMENT for an output of the wrong shape, dtype or batch size.
    """
    classes, scores = arrays.get(_CLASSES), arrays.get(_SCORES)
    for alias, array, dtype in ((_CLASSES, classes, tf.string), (_SCORES, scores, tf.float32)):
        if array is not None:
            _check_classes(signature.outputs[alias], array, dtype, rows)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    count = (classes if classes is not None else scores).shape[1]
    labels = classes.tolist() if classes is not None else [[b""] * count] * rows
    numbers = scores.tolist() if scores is not None else [[0.0] * count] * rows
    return [list(zip(*pair, strict=True)) for pair in zip(labels, numbers, strict=True)]


def _check_classes(spec: TensorSpec, array: np.ndarray, dtype: tf.DType, rows: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)} for "
            f"{spec.alias}"
        )
    if spec.dtype != dtype:
        wanted = "DT_STRING" if dtype == tf.string else "DT_FLOAT"
        raise invalid_argument(f"Expected {spec.alias} Tensor of {wanted}")
    if array.shape[0] != rows:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {rows} vs. {array.shape[0]}"
        )


def make_work(
    api: str,
    signature: Signature,
    examples: np.ndarray,
    finish: Callable[[dict[str, np.ndarray]], bytes],
) -> Work:
    """Work that runs one signature on examples and hands `finish` its outputs by alias."""
    aliases = list(signature.outputs)
    return Work(
        api,
        signature.feed_names,
        [examples],
        signature.fetch_names,
        lambda arrays: finish(dict(zip(aliases, arrays, strict=True))),
    )


def plan_regress(
    servable: Servable, request: regression_pb2.RegressionRequest, method_check: bool = False
) -> Work:
    """Work of a gRPC Regress."""
    signature = find_signature(servable, request.model_spec.signature_name)
    check_regress(signature, method_check)
    examples = serialized_examples(request.input)

    def finish(arrays: dict[str, np.ndarray]) -> bytes:
        response = regression_pb2.RegressionResponse()
        fill_spec(response.model_spec, servable, signature.name)
        fill_regressions(response.result, regressions(signature, arrays, len(examples)))
        return response.SerializeToString()

    return make_work("Regress", signature, examples, finish)


def plan_classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    method_check: bool = False,
) -> Work:
    """Work of a gRPC Classify."""
    signature = find_signature(servable, request.model_spec.signature_name)
    check_classify(signature, method_check)
    examples = serialized_examples(request.input)

    def finish(arrays: dict[str, np.ndarray]) -> bytes:
        response = classification_pb2.ClassificationResponse()
        fill_spec(response.model_spec, servable, signature.name)
        fill_classes(response.result, classifications(signature, arrays, len(examples)))
        return response.SerializeToString()

    return make_work("Classify", signature, examples, finish)


def fill_regressions(result: regression_pb2.RegressionResult, values: Sequence[float]) -> None:
    for value in values:
        result.regressions.add(value=value)


def fill_classes(
    result: classification_pb2.ClassificationResult,
    rows: Sequence[Sequence[tuple[bytes, float]]],
) -> None:
    for row in rows:
        entry = result.classifications.add()
        for label, score in row:
            entry.classes.add(label=label.decode("utf-8", "replace"), score=score)
