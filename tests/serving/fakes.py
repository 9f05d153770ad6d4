"""A model server that misbehaves on demand: the client's retries, deadlines and error texts.

It answers Predict with constants; what a server does with a model is tested against real ones.
"""

import json
import threading
import time
from collections import deque
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.tensors import to_proto

REFUSALS = {  # gRPC code and what REST makes of it
    "UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, 503),
    "RESOURCE_EXHAUSTED": (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    "INVALID_ARGUMENT": (grpc.StatusCode.INVALID_ARGUMENT, 400),
    "NOT_FOUND": (grpc.StatusCode.NOT_FOUND, 404),
    "INTERNAL": (grpc.StatusCode.INTERNAL, 500),
}


class Script:
    """What the server does to the next Predict requests: refuse with a code, or be slow."""

    def __init__(self):
        self.plan: deque[str | float] = deque()
        self.columns = {"user": "string", "price": "float32"}
        self.requests = 0
        self.states = [(1, 30, 0, "")]
        self.last_inputs: dict[str, list] = {}

    def next_refusal(self) -> str | None:
        self.requests += 1
        step = self.plan.popleft() if self.plan else None
        if isinstance(step, float):
            time.sleep(step)
            return None
        return step

    def signature_map(self) -> get_model_metadata_pb2.SignatureDefMap:
        definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        for alias, dtype in self.columns.items():
            definition.inputs[alias].dtype = (
                types_pb2.DT_STRING if dtype == "string" else types_pb2.DT_FLOAT
            )
            definition.defaults[alias].dtype = definition.inputs[alias].dtype
        for alias in ("probability", "logit"):
            definition.outputs[alias].dtype = types_pb2.DT_FLOAT
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signatures.signature_def["serving_default"].CopyFrom(definition)
        return signatures

    def status_response(self) -> get_model_status_pb2.GetModelStatusResponse:
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state, code, message in self.states:
            item = response.model_version_status.add(version=version, state=state)
            item.status.error_code, item.status.error_message = code, message
        return response


class FakeGrpc(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    def __init__(self, script):
        self.script = script

    def Predict(self, request, context):  # noqa: N802 (gRPC's name)
        refusal = self.script.next_refusal()
        if refusal:
            context.abort(REFUSALS[refusal][0], f"scripted {refusal}")
        if set(request.inputs) != set(self.script.columns):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature")
        rows = request.inputs["user"].tensor_shape.dim[0].size
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = 7
        for alias in request.output_filter or ("probability", "logit"):
            response.outputs[alias].CopyFrom(to_proto(np.full(rows, 0.5, np.float32)))
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.metadata["signature_def"].Pack(self.script.signature_map())
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        return self.script.status_response()


def http_handler(script):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            options = {
                "always_print_fields_with_no_presence": True,
                "preserving_proto_field_name": True,
            }
            if self.path.endswith("/metadata"):
                signatures = json_format.MessageToDict(script.signature_map(), **options)
                spec = {"name": "ctr", "signature_name": "", "version": "7"}
                self.reply(200, {"model_spec": spec, "metadata": {"signature_def": signatures}})
            else:
                states = json_format.MessageToDict(script.status_response(), **options)
                self.reply(200, states)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            refusal = script.next_refusal()
            script.last_inputs = body["inputs"]
            if refusal == "HTML":
                self.reply_text(404, b"<html><title>404 Not Found</title></html>")
            elif refusal == "HANG UP":
                self.close_connection = True
            elif refusal:
                self.reply(REFUSALS[refusal][1], {"error": f"scripted {refusal}"})
            elif set(body["inputs"]) < set(script.columns):
                self.reply(400, {"error": "Missing named input: x in 'inputs' object."})
            else:
                rows = len(body["inputs"]["user"])
                half = [0.5] * (rows - 1) + [float("nan")]
                self.reply(200, {"outputs": {"probability": half, "logit": half}})

        def reply(self, status, body):
            self.reply_text(status, json.dumps(body).encode())

        def reply_text(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Quiet: the tests' output is not the place for an access log."""

    return Handler


class FakeServer:
    """Both ports on 127.0.0.1, stopped by leaving the `with` block."""

    def __enter__(self):
        self.script = Script()
        self._grpc = grpc.server(futures.ThreadPoolExecutor(4))
        servicer = FakeGrpc(self.script)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, self._grpc)
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), http_handler(self.script))
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        http_port = self._http.server_address[1]
        self.addresses = {"grpc": f"127.0.0.1:{port}", "rest": f"http://127.0.0.1:{http_port}"}
        return self

    def __exit__(self, *exception):
        self._grpc.stop(None)
        self._http.shutdown()
        self._http.server_close()
