"""MultiInference: several Classify and Regress signatures over the same examples, in one run."""

import numpy as np
from tensorflow_serving.apis import inference_pb2

from serving.embedded import examples
from serving.embedded.errors import invalid_argument, unimplemented
from serving.embedded.predict import fill_spec
from serving.embedded.servable import Servable, Work
from serving.embedded.signatures import DEFAULT_SIGNATURE, Signature

_CHECKS = {
    examples.CLASSIFY_METHOD: examples.check_classify,
    examples.REGRESS_METHOD: examples.check_regress,
}


def first_spec(request: inference_pb2.MultiInferenceRequest) -> object:
    """The ModelSpec that chooses the servable: the first task's.

    Raises:
        ServingError: INVALID_ARGUMENT when there is no task.
    """
    if not request.tasks:
        raise invalid_argument("Inference request needs at least one inference task.")
    return request.tasks[0].model_spec


def plan(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    method_check: bool = False,
) -> Work:
    """Work that fetches the outputs of all tasks together; results keep task order.

    Raises:
        ServingError: INVALID_ARGUMENT for tasks that do not belong together, UNIMPLEMENTED for
            another method than classify and regress.
    """
    rows = examples.serialized_examples(request.input)
    signatures = _signatures(servable, request, method_check)
    inputs = {signature.feed_names for signature in signatures}
    if len(inputs) > 1:
        raise invalid_argument("Input tensor must be the same for all Signatures.")
    fetches = [name for signature in signatures for name in signature.fetch_names]

    def finish(arrays: list[np.ndarray]) -> bytes:
        by_tensor = dict(zip(fetches, arrays, strict=True))
        response = inference_pb2.MultiInferenceResponse()
        for task, signature in zip(request.tasks, signatures, strict=True):
            outputs = {alias: by_tensor[spec.name] for alias, spec in signature.outputs.items()}
            result = response.results.add()
            fill_spec(result.model_spec, servable, signature.name)
            if task.method_name == examples.REGRESS_METHOD:
                values = examples.regressions(signature, outputs, len(rows))
                examples.fill_regressions(result.regression_result, values)
            else:
                classes = examples.classifications(signature, outputs, len(rows))
                examples.fill_classes(result.classification_result, classes)
        return response.SerializeToString()

    return Work("MultiInference", inputs.pop(), [rows], tuple(fetches), finish)


def _signatures(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, method_check: bool
) -> list[Signature]:
    found: list[Signature] = []
    seen: set[str] = set()
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = servable.model.signatures.get(name)
        if signature is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        check = _CHECKS.get(task.method_name)
        if check is None:
            raise unimplemented(f"Unsupported signature method_name: {task.method_name}")
        check(signature, method_check)
        found.append(signature)
    return found
