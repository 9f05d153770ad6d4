"""The REST APIs without HTTP: a matched route and a body in, a status and a body out."""

import time
from dataclasses import dataclass

from serving.embedded import json_examples, json_predict, json_writer, metadata
from serving.embedded.core import ServerCore
from serving.embedded.errors import (
    ServingError,
    from_exception,
    invalid_argument,
    json_error_body,
)
from serving.embedded.metrics import Metrics
from serving.embedded.options import ServerOptions
from serving.embedded.routes import Route, VersionOverflowError, match
from serving.embedded.runner import Runner
from serving.embedded.servable import Servable, Work


@dataclass(frozen=True)
class Answer:
    """A response; content type JSON unless told otherwise."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    close: bool = False


class RestApi:
    """Answers the routes of protocol sections 2 and 4 to 6.

    Args:
        core: models and labels.
        runner: where requests run.
        metrics: counts and latencies.
        options: the server's settings.
    """

    def __init__(self, core: ServerCore, runner: Runner, metrics: Metrics, options: ServerOptions):
        self._core = core
        self._runner = runner
        self._metrics = metrics
        self._options = options

    async def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer one API request; never raises for anything a client can cause."""
        started = time.perf_counter()
        model = api = ""
        try:
            route = match(method, target)
            model = route.name
            if route.api in ("status", "metadata"):
                deadline = time.monotonic() + self._options.rest_timeout_seconds
                text = await self._runner.call(lambda: self._describe(route), deadline)
            else:
                api = route.api
                text = await self._run(route, body)
        except VersionOverflowError:
            self._metrics.request_count.add("", "INVALID_ARGUMENT")
            return Answer(400, b"")
        except Exception as error:
            return self._failed(model, from_exception(error))
        self._metrics.request_count.add(model, "OK")
        micros = (time.perf_counter() - started) * 1e6
        self._metrics.request_latency.observe(model, api, "REST", amount=micros)
        return Answer(200, text)

    def refuse(self, method: str, target: str, failure: ServingError) -> Answer:
        """The counted answer to a request that is turned away before anything is asked of it."""
        try:
            model = match(method, target).name
        except ValueError:  # no route, or a version beyond int64
            model = ""
        return self._failed(model, failure)

    def _failed(self, model: str, failure: ServingError) -> Answer:
        self._metrics.request_count.add(model, failure.code)
        return Answer(failure.http_status, json_error_body(failure.message))

    def _describe(self, route: Route) -> bytes:
        if route.api == "status":
            # A label is not looked up here, as in TensorFlow Serving.
            return metadata.to_json(metadata.model_status(self._core, route.name, route.version))
        servable = self._find(route)
        try:
            return metadata.metadata_json(servable)
        finally:
            servable.release()

    async def _run(self, route: Route, body: bytes) -> bytes:
        def planner() -> tuple[Servable, Work]:
            return self._plan(route, body)

        deadline = time.monotonic() + self._options.rest_timeout_seconds
        return await self._runner.answer(planner, len(body), deadline)

    def _plan(self, route: Route, body: bytes) -> tuple[Servable, Work]:
        # The body is parsed first: bad JSON for an unknown model is 400, not 404.
        if route.api == "predict":
            parsed = json_predict.read_body(body)
        else:
            signature_name, message = json_examples.read_body(route.api, body)
        servable = self._find(route)
        try:
            if route.api == "predict":
                return servable, _plan_predict(servable, parsed)
            check = self._options.method_name_check
            return servable, json_examples.plan(route.api, servable, signature_name, message, check)
        except BaseException:
            servable.release()
            raise

    def _find(self, route: Route) -> Servable:
        version = route.version
        if route.label is not None:
            version = self._core.labelled(route.name, route.label)
        return self._core.find_version(route.name, version)


def _plan_predict(servable: Servable, body: json_predict.PredictBody) -> Work:
    signature = servable.model.signatures.get(body.signature_name)
    if signature is None:
        raise invalid_argument(
            f'Serving signature name: "{body.signature_name}" not found in signature def'
        )
    feeds = json_predict.tensors(body, signature)
    specs = list(signature.outputs.values())
    write = json_writer.predictions if body.rows else json_writer.outputs
    return Work(
        "Predict",
        signature.feed_names,
        feeds,
        signature.fetch_names,
        lambda arrays: write(specs, arrays),
    )
