"""What the client says to the server and in which order, as steps (see serving.client.retry)."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tensorflow_serving.config import model_server_config_pb2

from serving.client.answers import Answer, Metadata, Signature, VersionStatus
from serving.client.errors import ClientError
from serving.client.grpc_transport import GrpcTransport
from serving.client.rest_transport import RestTransport
from serving.client.retry import Pause, RetryPolicy, Steps, send_with_retries
from serving.client.tables import Table, candidate_inputs, row_inputs
from serving.client.target import Target

# How a server refuses inputs or a signature that another version of the model would take.
_MISFIT = {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}
# What a server may answer, or not answer, while it starts.
_NOT_YET = {"UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED"}

# Inputs of a signature, and the number of candidates where its answer has to be cut to them.
Inputs = tuple[dict[str, np.ndarray], int | None]


class Conversation:
    """The steps of every call about one model; remembers its metadata between calls."""

    def __init__(
        self,
        transport: GrpcTransport | RestTransport,
        target: Target,
        timeout: float,
        retries: RetryPolicy,
    ) -> None:
        self._transport = transport
        self._target = target
        self._timeout = checked_timeout(timeout)
        self._retries = retries
        self._metadata: Metadata | None = None

    def rows(
        self,
        name: str,
        rows: Table,
        *,
        outputs: Sequence[str] = (),
        ignore_unknown: bool = False,
        timeout: float | None = None,
    ) -> Steps:
        """Send rows to the signature `name`; returns its Answer."""

        def inputs_for(signature: Signature) -> Inputs:
            columns = signature.columns()
            return row_inputs(columns, rows, ignore_unknown=ignore_unknown), None

        return (yield from self._predict(name, inputs_for, outputs, timeout))

    def candidates(
        self,
        context: Mapping[str, object],
        candidates: Table,
        *,
        outputs: Sequence[str] = (),
        ignore_unknown: bool = False,
        timeout: float | None = None,
    ) -> Steps:
        """Send one context and N candidates; returns an Answer of vectors (N,)."""

        def inputs_for(signature: Signature) -> Inputs:
            columns = signature.columns()
            return candidate_inputs(columns, context, candidates, ignore_unknown=ignore_unknown)

        return (yield from self._predict("score_candidates", inputs_for, outputs, timeout))

    def _predict(
        self,
        name: str,
        inputs_for: Callable[[Signature], Inputs],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> Steps:
        """Ask with the signatures known; if they no longer fit, learn the new ones and ask again.

        A hot swap may bring a version with other columns, so a refusal is not believed until it
        stands against fresh metadata.
        """
        deadline = self._deadline(timeout)
        known = self._metadata
        if known is not None:
            try:
                return (yield from self._ask(known, name, inputs_for, outputs, deadline))
            except ClientError as error:
                if error.code not in _MISFIT:
                    raise
                refusal: ValueError = error
            except ValueError as error:
                refusal = error
            fresh = yield from self._fetch_metadata(deadline)
            if fresh.signatures == known.signatures:
                raise refusal
        else:
            fresh = yield from self._fetch_metadata(deadline)
        return (yield from self._ask(fresh, name, inputs_for, outputs, deadline))

    def _ask(
        self,
        metadata: Metadata,
        name: str,
        inputs_for: Callable[[Signature], Inputs],
        outputs: Sequence[str],
        deadline: float,
    ) -> Steps:
        if name not in metadata.signatures:
            raise ClientError(
                "FAILED_PRECONDITION",
                f"{self._target} has no signature {name!r}, "
                f"it has {', '.join(metadata.signatures)}",
            )
        signature = metadata.signatures[name]
        for alias in outputs:
            if alias not in signature.outputs:
                raise ClientError(
                    "INVALID_ARGUMENT",
                    f"signature {name!r} has no output {alias!r}, "
                    f"it has {', '.join(signature.outputs)}",
                )
        inputs, size = inputs_for(signature)
        call = self._transport.predict_call(self._target, name, signature, inputs, outputs)
        answer: Answer = yield from send_with_retries(call, self._retries, deadline)
        if size is None:
            return answer
        # A batching server may have padded the candidates to those of another request.
        return Answer({k: v[0, :size] for k, v in answer.outputs.items()}, answer.version)

    def _fetch_metadata(self, deadline: float) -> Steps:
        call = self._transport.metadata_call(self._target)
        self._metadata = yield from send_with_retries(call, self._retries, deadline)
        return self._metadata

    def metadata(self, timeout: float | None = None) -> Steps:
        """Ask for the signatures; returns Metadata."""
        return (yield from self._fetch_metadata(self._deadline(timeout)))

    def status(self, timeout: float | None = None) -> Steps:
        """Ask for the states of versions; returns a list of VersionStatus."""
        call = self._transport.status_call(self._target)
        return (yield from send_with_retries(call, self._retries, self._deadline(timeout)))

    def wait(self, timeout: float, version: int | None) -> Steps:
        """Ask for states until one is AVAILABLE; returns its version number."""
        version = self._target.version if version is None else version
        call = self._transport.status_call(Target(self._target.model))
        deadline, pause, seen = self._deadline(timeout), 0.02, "no answer yet"
        while time.monotonic() < deadline:
            attempt = min(deadline, time.monotonic() + 5.0)
            try:
                states = yield from send_with_retries(call, RetryPolicy(attempts=1), attempt)
            except ClientError as error:
                if error.code not in _NOT_YET:
                    raise
                seen = str(error)
            else:
                found = _available(states, version)
                if found is not None:
                    return found
                seen = ", ".join(f"{s.version} {s.state} {s.error_message}".strip() for s in states)
            yield Pause(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(2 * pause, 0.5)
        wanted = (
            self._target.model if version is None else f"{self._target.model} version {version}"
        )
        raise ClientError(
            "DEADLINE_EXCEEDED", f"{wanted} not available after {timeout:g} s: {seen}"
        )

    def reload(
        self, config: model_server_config_pb2.ModelServerConfig, timeout: float | None = None
    ) -> Steps:
        """Replace the server's configuration."""
        call = self._transport.reload_call(config)
        return (yield from send_with_retries(call, self._retries, self._deadline(timeout)))

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else checked_timeout(timeout))


def _available(states: Sequence[VersionStatus], version: int | None) -> int | None:
    wanted = [state for state in states if version in (None, state.version)]
    for state in sorted(wanted, key=lambda s: s.version, reverse=True):
        if state.available:
            return state.version
        if version is not None and state.failed:
            raise ClientError(state.error_code, state.error_message)
    return None


def checked_timeout(timeout: float) -> float:
    """The timeout itself; ValueError unless positive and finite."""
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout: expected a positive number of seconds, got {timeout!r}")
    return float(timeout)
