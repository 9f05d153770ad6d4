"""PredictionService and ModelService on grpc.aio, working on raw bytes.

Requests are parsed in the worker threads rather than by gRPC, so that the event loop stays free and
a message that does not parse gets a status instead of a logged traceback.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.embedded import examples, metadata, multi_inference, predict
from serving.embedded.core import ServerCore
from serving.embedded.errors import ServingError, from_exception, invalid_argument
from serving.embedded.metrics import Metrics
from serving.embedded.options import ServerOptions
from serving.embedded.runner import Admission, Runner
from serving.embedded.servable import Servable, Work

Context = grpc.aio.ServicerContext
PlanFunction = Callable[[Servable, Message], Work]
M = TypeVar("M", bound=Message)


class GrpcServices:
    """The handlers of one server.

    Args:
        core: models and labels.
        runner: where requests run.
        admission: bounds on requests in the house.
        metrics: counts and latencies.
        options: the server's settings.
    """

    def __init__(
        self,
        core: ServerCore,
        runner: Runner,
        admission: Admission,
        metrics: Metrics,
        options: ServerOptions,
    ):
        self._core = core
        self._runner = runner
        self._admission = admission
        self._metrics = metrics
        self._options = options

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Both services, ready to be added to a grpc.aio server."""
        prediction = {
            "Predict": self._predict,
            "Classify": self._classify,
            "Regress": self._regress,
            "MultiInference": self._multi_inference,
            "GetModelMetadata": self._model_metadata,
        }
        model = {
            "GetModelStatus": self._model_status,
            "HandleReloadConfigRequest": self._reload_config,
        }
        return [
            _service("tensorflow.serving.PredictionService", prediction),
            _service("tensorflow.serving.ModelService", model),
        ]

    async def _predict(self, body: bytes, context: Context) -> bytes:
        def make(servable: Servable, request: predict_pb2.PredictRequest) -> Work:
            return predict.plan(servable, request, self._options.output_as_content)

        return await self._run("Predict", body, context, predict_pb2.PredictRequest, make)

    async def _classify(self, body: bytes, context: Context) -> bytes:
        def make(servable: Servable, request: Message) -> Work:
            return examples.plan_classify(servable, request, self._options.method_name_check)

        kind = classification_pb2.ClassificationRequest
        return await self._run("Classify", body, context, kind, make)

    async def _regress(self, body: bytes, context: Context) -> bytes:
        def make(servable: Servable, request: Message) -> Work:
            return examples.plan_regress(servable, request, self._options.method_name_check)

        kind = regression_pb2.RegressionRequest
        return await self._run("Regress", body, context, kind, make)

    async def _multi_inference(self, body: bytes, context: Context) -> bytes:
        def make(servable: Servable, request: inference_pb2.MultiInferenceRequest) -> Work:
            rows = examples.count_examples(request.input)
            self._metrics.example_counts.observe(servable.name, amount=rows)
            self._metrics.example_count_total.add(servable.name, by=rows)
            return multi_inference.plan(servable, request, self._options.method_name_check)

        kind = inference_pb2.MultiInferenceRequest
        return await self._run("MultiInference", body, context, kind, make)

    async def _run(
        self,
        api: str,
        body: bytes,
        context: Context,
        request_type: type[Message],
        make: PlanFunction,
    ) -> bytes:
        started = time.perf_counter()
        model = [""]  # filled in once the request is parsed, for the metrics

        def planner() -> tuple[Servable, Work]:
            request = _parse(request_type, body)
            spec = _model_spec(request)
            model[0] = spec.name
            servable = self._core.find(spec)
            try:
                return servable, make(servable, request)
            except BaseException:
                servable.release()
                raise

        deadline = _deadline(context)
        try:
            with self._admission.holding(len(body)):
                answer = await self._runner.answer(planner, len(body), deadline)
        except Exception as error:
            failure = from_exception(error)
            self._count(api, model[0], failure.code)
            await context.abort(failure.grpc_code, failure.grpc_details)
        self._count(api, model[0], "OK")
        micros = (time.perf_counter() - started) * 1e6
        self._metrics.request_latency.observe(model[0], api, "GRPC", amount=micros)
        return answer

    def _count(self, api: str, model: str, status: str) -> None:
        if api != "MultiInference":  # TensorFlow Serving does not count these either
            self._metrics.request_count.add(model, status)

    async def _model_metadata(self, body: bytes, context: Context) -> bytes:
        def describe() -> bytes:
            request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, body)
            spec = _model_spec(request)
            metadata.check_fields(list(request.metadata_field))
            servable = self._core.find(spec)
            try:
                return metadata.model_metadata(servable).SerializeToString()
            finally:
                servable.release()

        return await self._describe(describe, context)

    async def _model_status(self, body: bytes, context: Context) -> bytes:
        def describe() -> bytes:
            request = _parse(get_model_status_pb2.GetModelStatusRequest, body)
            spec = _model_spec(request)
            has_version = spec.WhichOneof("version_choice") == "version"
            version = spec.version.value if has_version else None
            return metadata.model_status(self._core, spec.name, version).SerializeToString()

        return await self._describe(describe, context)

    async def _describe(self, describe: Callable[[], bytes], context: Context) -> bytes:
        try:
            return await self._runner.call(describe, _deadline(context))
        except Exception as error:
            failure = from_exception(error)
            return await context.abort(failure.grpc_code, failure.grpc_details)

    async def _reload_config(self, body: bytes, context: Context) -> bytes:
        # Waiting for models to load may take minutes: a thread of its own, not a worker's.
        abandoned = threading.Event()

        def reload() -> None:
            request = _parse(model_management_pb2.ReloadConfigRequest, body)
            new = self._core.apply(request.config)
            try:
                self._core.wait_until_settled(new, cancelled=abandoned.is_set)
            except ServingError as error:
                text = error.message.replace("servable(s) did not", "model(s) did not", 1)
                raise ServingError(error.code, text) from error

        response = model_management_pb2.ReloadConfigResponse()
        try:
            await asyncio.to_thread(reload)
        except Exception as error:
            failure = from_exception(error)
            await context.abort(failure.grpc_code, failure.grpc_details)
        finally:
            abandoned.set()
        response.status.error_code = 0
        return response.SerializeToString()


def _service(
    name: str, methods: dict[str, Callable[[bytes, Context], Awaitable[bytes]]]
) -> grpc.GenericRpcHandler:
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(function)
        for method, function in methods.items()
    }
    return grpc.method_handlers_generic_handler(name, handlers)


def _deadline(context: Context) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _parse(message_type: type[M], body: bytes) -> M:
    try:
        return message_type.FromString(body)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.full_name
        raise ServingError("INTERNAL", f"Failed to parse {name}") from error


def _model_spec(request: Message) -> model_pb2.ModelSpec:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return multi_inference.first_spec(request)
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec
