"""Malformed requests, and what may be answered to them."""

import json
import random

import grpc
import numpy as np
import tensorflow as tf

from tests.serving.embedded.calls import predict_request

DOCUMENTED_HTTP = {200, 400, 404, 429, 501, 503, 504}
DOCUMENTED_GRPC = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "NOT_FOUND",
    "UNIMPLEMENTED",
    "OUT_OF_RANGE",
    "INTERNAL",  # only for bytes that are no protobuf, see below
}
SIGNATURES = [
    "",
    "pair",
    "triple",
    "matmul",
    "embed",
    "text",
    "number",
    "constant",
    "nope",
    "regress",
]
GOOD_BODIES = [
    {"instances": [1.0, 2.0]},
    {"inputs": {"x": [1.0]}},
    {"signature_name": "pair", "instances": [{"a": 1.0, "b": 2.0}, {"a": 3, "b": 4}]},
    {"signature_name": "text", "inputs": {"s": ["a", {"b64": "YQ=="}]}},
    {"signature_name": "regress", "context": {"n": 1}, "examples": [{"x": 1.0, "s": ["t"]}]},
]


def random_value(draw: random.Random, depth: int = 4) -> object:
    kind = draw.randrange(14 if depth else 9)
    scalars = [
        None,
        True,
        draw.randint(-(2**70), 2**70),
        draw.randint(-3, 9),
        draw.uniform(-1e6, 1e6),
        draw.choice(["", "x", "\x00", "é", "1e5", "abc" * draw.randrange(50)]),
        {"b64": draw.choice(["YQ==", "!!", "", "Y"])},
        [],
        {},
    ]
    if kind < len(scalars):
        return scalars[kind]
    size = draw.randrange(5)
    if kind < 12:
        return [random_value(draw, depth - 1) for _ in range(size)]
    names = ["a", "b", "c", "x", "s", "ids", "b64", "inputs"]
    return {draw.choice(names): random_value(draw, depth - 1) for _ in range(size)}


def random_body(draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:  # right shape, wrong contents
        document = {
            "signature_name": draw.choice(SIGNATURES),
            draw.choice(["instances", "inputs", "examples", "context"]): random_value(draw),
        }
        return json.dumps(document).encode()
    if kind == 1:  # any JSON
        return json.dumps(random_value(draw)).encode()
    body = bytearray(json.dumps(draw.choice(GOOD_BODIES)).encode())
    if kind == 2:  # damaged text
        return damaged(draw, body)
    tokens = [b"NaN", b"-Infinity", b"1e999", b"[" * 3000, b'{"a":', b"\xff\xfe", b"\\ud800", b"//"]
    at = draw.randrange(len(body))
    return bytes(body[:at] + draw.choice(tokens) + body[at:])


def damaged(draw: random.Random, body: bytearray) -> bytes:
    for _ in range(draw.randint(1, 6)):
        action, at = draw.randrange(3), draw.randrange(len(body) or 1)
        if action == 0 and body:
            body[at] = draw.randrange(256)
        elif action == 1:
            body.insert(at, draw.randrange(256))
        else:
            del body[at : at + draw.randint(1, 8)]
    return bytes(body)


def check_rest(calls, draw: random.Random) -> str:
    """Send one random REST request, check its answer; the HTTP status as text."""
    verb = draw.choice(["predict", "predict", "predict", "regress", "classify"])
    path = draw.choice(["all", "all", "all", "nope", "all/versions/7", "all/labels/x"])
    response = calls.post(f"{path}:{verb}", random_body(draw))
    assert response.status_code in DOCUMENTED_HTTP, response.text
    if response.status_code != 200:
        assert list(json.loads(response.content.decode("utf-8", "replace"))) == ["error"]
    assert b"Traceback" not in response.content
    assert b"Internal error" not in response.content
    return str(response.status_code)


def random_request(draw: random.Random):
    dtype = draw.choice([tf.float32, tf.int64, tf.string, tf.bool, tf.float16, tf.complex64])
    shape = [draw.randint(-1, 4) for _ in range(draw.randrange(4))]
    values = np.zeros(draw.randrange(6), dtype.as_numpy_dtype)
    proto = tf.make_tensor_proto(values.astype("S1") if dtype == tf.string else values)
    if draw.random() < 0.7:
        del proto.tensor_shape.dim[:]
        for size in shape:
            proto.tensor_shape.dim.add(size=draw.choice([size, size, size, 2**40]))
    if draw.random() < 0.2:
        proto.tensor_content = draw.randbytes(draw.randrange(40))
    if draw.random() < 0.2:
        proto.dtype = draw.randrange(0, 60)
    names = draw.sample(["x", "a", "b", "c", "s", "ids", "inputs", ""], draw.randrange(4))
    request = predict_request(
        draw.choice(["all", "all", "all", "nope", ""]),
        draw.choice(SIGNATURES),
        **{name: proto for name in names if name},
    )
    if draw.random() < 0.1:
        request.output_filter.extend(draw.choices(["y", "sum", "nope"], k=2))
    if draw.random() < 0.1:
        request.model_spec.version.value = draw.randint(-(2**63), 2**63 - 1)
    return request


def check_grpc(calls, draw: random.Random) -> str:
    """Send one random gRPC request, check its answer; the status as text."""
    method = draw.choice(["Predict", "Predict", "Classify", "Regress", "MultiInference"])
    body = random_request(draw).SerializeToString()
    if draw.random() < 0.4:
        body = damaged(draw, bytearray(body))
    call = calls.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
    try:
        call(body, timeout=30)
    except grpc.RpcError as error:
        assert error.code().name in DOCUMENTED_GRPC, (error.code(), error.details())
        if error.code() == grpc.StatusCode.INTERNAL:
            assert error.details().startswith("Failed to parse tensorflow.serving.")
        assert "Traceback" not in error.details()
        return error.code().name
    return "OK"


def check_right(calls) -> None:
    """Both ports answer a good request as they should."""
    assert calls.post("all:predict", {"instances": [1.0]}).json() == {"predictions": [2.5]}
    got = calls.predict(predict_request("all", x=np.array([1.0], np.float32)))
    assert got["y"].tolist() == [2.5]
