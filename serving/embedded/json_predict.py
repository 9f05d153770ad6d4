"""Bodies of REST Predict: the row form (`instances`) and the column form (`inputs`)."""

from dataclasses import dataclass

import numpy as np

from serving.embedded.errors import ServingError, invalid_argument
from serving.embedded.json_dump import dump
from serving.embedded.json_elements import is_base64, to_array
from serving.embedded.json_reader import parse
from serving.embedded.json_tensors import flatten_regular, to_tensor
from serving.embedded.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec


@dataclass(frozen=True)
class PredictBody:
    """A parsed body before the signature is known.

    Attributes:
        signature_name: the effective signature.
        rows: whether the answer is `predictions` (row form) or `outputs` (column form).
        data: the value of `instances` or `inputs`.
    """

    signature_name: str
    rows: bool
    data: object


def read_body(body: bytes) -> PredictBody:
    """Parse a Predict body and find which of the two forms it has.

    Raises:
        ServingError: INVALID_ARGUMENT, texts of protocol section 4.1.
    """
    document = read_object(body)
    signature = read_signature_name(document)
    if "instances" in document and "inputs" in document:
        raise invalid_argument(
            f"JSON Value: {dump(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist"
        )
    if "inputs" in document:
        return PredictBody(signature, False, document["inputs"])
    if "instances" not in document:
        raise invalid_argument(f"JSON Value: {dump(document)} Missing 'inputs' or 'instances' key")
    return PredictBody(signature, True, document["instances"])


def read_object(body: bytes) -> dict[str, object]:
    """Parse a body whose top level must be an object."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    document = parse(body)
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {dump(document)} Is not object")
    return document


def read_signature_name(document: dict[str, object]) -> str:
    """The effective signature name of a body."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {dump(document)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return name or DEFAULT_SIGNATURE


def tensors(body: PredictBody, signature: Signature) -> list[np.ndarray]:
    """Feeds in the order of the signature's inputs.

    Raises:
        ServingError: INVALID_ARGUMENT (or UNIMPLEMENTED in column form), texts of protocol
            sections 4.2 to 4.4.
    """
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {signature.name}")
    return (_rows if body.rows else _columns)(body.data, signature)


def _columns(data: object, signature: Signature) -> list[np.ndarray]:
    specs = list(signature.inputs.values())
    named = isinstance(data, dict) and not is_base64(data)
    if len(specs) == 1 and not named:
        return [to_tensor(specs[0], data)]
    if not named:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    for spec in specs:
        if spec.alias not in data:
            raise invalid_argument(f"Missing named input: {spec.alias} in 'inputs' object.")
    return [to_tensor(spec, data[spec.alias]) for spec in specs]


def _rows(data: object, signature: Signature) -> list[np.ndarray]:
    if not isinstance(data, list):
        raise invalid_argument("Expecting 'instances' to be an list/array")
    if not data:
        raise invalid_argument("No values in 'instances' array")
    return _rows_fast(data, signature.inputs) or _rows_checked(data, signature.inputs)


def _is_named(item: object) -> bool:
    return isinstance(item, dict) and not is_base64(item)


def _rows_fast(data: list, inputs: dict[str, TensorSpec]) -> list[np.ndarray] | None:
    """All items at once, a column at a time; None when anything at all is out of order."""
    if _is_named(data[0]):
        aliases = inputs.keys()
        if set(map(type, data)) != {dict} or any(row.keys() != aliases for row in data):
            return None
        columns = [[row[alias] for row in data] for alias in inputs]
    elif len(inputs) == 1 and not any(map(_is_named, data)):
        columns = [data]
    else:
        return None
    try:
        arrays = []
        for spec, column in zip(inputs.values(), columns, strict=True):
            regular = flatten_regular(column)
            if regular is None:
                return None
            arrays.append(to_array(spec, regular[0]).reshape(regular[1]))
    except ServingError:
        return None  # the careful way finds the same fault and says in which item
    return arrays


def _rows_checked(data: list, inputs: dict[str, TensorSpec]) -> list[np.ndarray]:
    named = _is_named(data[0])
    if len(inputs) > 1 and not named:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    parts: dict[str, list[np.ndarray]] = {alias: [] for alias in inputs}
    for index, item in enumerate(data):
        if named:
            _add_named(index, item, inputs, parts)
        else:
            _add_bare(index, item, next(iter(inputs.values())), parts)
    return [np.stack(arrays) for arrays in parts.values()]


def _add_named(
    index: int, item: object, inputs: dict[str, TensorSpec], parts: dict[str, list[np.ndarray]]
) -> None:
    if not _is_named(item):
        raise invalid_argument(f"Expecting object but got list at item {index} of input list")
    for key, value in item.items():
        where = f"Failed to process element: {index} key: {key} of 'instances' list."
        if key not in inputs:
            raise invalid_argument(
                f"{where} Error: INVALID_ARGUMENT: JSON object: does not have named input: {key}"
            )
        _add(where, inputs[key], value, parts[key])
    if item.keys() != inputs.keys():
        raise invalid_argument(
            f"Failed to process element: {index} of 'instances' list. JSON object: {dump(item)} "
            f"keys must be equal to: {','.join(sorted(inputs))}"
        )


def _add_bare(
    index: int, item: object, spec: TensorSpec, parts: dict[str, list[np.ndarray]]
) -> None:
    if _is_named(item):
        raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
    where = f"Failed to process element: {index} of 'instances' list."
    _add(where, spec, item, parts[spec.alias])


def _add(where: str, spec: TensorSpec, value: object, done: list[np.ndarray]) -> None:
    try:
        array = to_tensor(spec, value)
        if done and array.size != done[0].size:
            raise invalid_argument(f"Expecting tensor size: {done[0].size} but got: {array.size}")
        if done and array.shape != done[0].shape:
            raise invalid_argument(f"Expecting shape {_shape(done[0])} but got: {_shape(array)}")
    except ServingError as error:
        raise invalid_argument(f"{where} Error: {error.nested()}") from error
    done.append(array)


def _shape(array: np.ndarray) -> str:
    return f"<[{','.join(map(str, array.shape))}]>"
