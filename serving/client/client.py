"""The client: raw rows in, NumPy arrays out.

    with Client("127.0.0.1:8500", "ctr") as client:             # gRPC
        client.wait_until_available()
        client.predict([{"user": "12", "item": "7"}])["probability"]
        client.score_candidates({"user": "12"}, {"item": ["7", "8", "9"]})["probability"]

    Client("http://127.0.0.1:8501", "ctr")                      # REST
    Client("grpcs://ctr.example:8500", "ctr", label="stable", tls=TLS(ca="ca.pem"))

Every method has a twin `..._async` to await.
"""

from collections.abc import Mapping
from typing import Any

from tensorflow_serving.config import model_server_config_pb2

from serving.client.answers import Answer, Metadata, VersionStatus
from serving.client.conversation import Conversation
from serving.client.grpc_transport import GrpcTransport
from serving.client.rest_transport import RestTransport
from serving.client.retry import RetryPolicy, Steps, drive, drive_async
from serving.client.tables import Table
from serving.client.target import Target
from serving.client.tls import TLS

_SECURE = {"https", "grpcs"}
_SCHEMES = {"grpc", "http"} | _SECURE


class Client:
    """Talks to one model of one server.

    Args:
        address: `host:port` or `grpc://host:port` for gRPC, `http://host:port` for REST,
            `grpcs://` and `https://` for TLS.
        model: the model's name.
        version: score with this version; default: the latest available.
        label: score with the version so labelled (`stable`, `canary`).
        timeout: seconds a call may take in all, retries included.
        retries: for UNAVAILABLE / 503 and RESOURCE_EXHAUSTED / 429 only.
        tls: certificates; only with a secure scheme.

    Raises:
        ValueError: for an unusable argument. Calls raise ClientError for what the server or the
            wire answers, and serving.columns.ColumnError for rows that do not fit the model,
            before anything is sent.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 5.0,
        retries: RetryPolicy | None = None,
        tls: TLS | None = None,
    ) -> None:
        self.target = Target(model, version, label)
        self._transport = _transport(address, tls)
        self._conversation = Conversation(
            self._transport, self.target, timeout, retries or RetryPolicy()
        )

    # --- scoring ---------------------------------------------------------------------------

    def predict(self, rows: Table, **options: Any) -> Answer:
        """Score rows.

        Args:
            rows: DataFrame, Arrow table, dictionary of columns or list of dictionaries, of raw
                columns. Columns not given count as missing cells.
            **options: `outputs` (aliases wanted; default all), `ignore_unknown` (drop columns
                that the model does not have instead of refusing them), `timeout` (seconds).

        Returns:
            `probability` (or `prediction`) and `logit`, each (B,).
        """
        return self._run(self._conversation.rows("serving_default", rows, **options))

    async def predict_async(self, rows: Table, **options: Any) -> Answer:
        """`predict`, awaited."""
        return await self._run_async(self._conversation.rows("serving_default", rows, **options))

    def explain(self, rows: Table, **options: Any) -> Answer:
        """`predict`, with the parts of each logit: `bias` (B,), `first_order` (B, F), ..."""
        return self._run(self._conversation.rows("explain", rows, **options))

    async def explain_async(self, rows: Table, **options: Any) -> Answer:
        """`explain`, awaited."""
        return await self._run_async(self._conversation.rows("explain", rows, **options))

    def score_candidates(
        self, context: Mapping[str, object], candidates: Table, **options: Any
    ) -> Answer:
        """Score N candidates in one context, which is sent once.

        Args:
            context: one value per column (the user, the page).
            candidates: N rows of the other columns.
            **options: as for `predict`.

        Returns:
            `probability` (or `prediction`) and `logit`, each (N,).
        """
        return self._run(self._conversation.candidates(context, candidates, **options))

    async def score_candidates_async(
        self, context: Mapping[str, object], candidates: Table, **options: Any
    ) -> Answer:
        """`score_candidates`, awaited."""
        return await self._run_async(self._conversation.candidates(context, candidates, **options))

    # --- the model -------------------------------------------------------------------------

    def status(self, **options: Any) -> list[VersionStatus]:
        """State of every version (of the one asked for, if the client has a version)."""
        return self._run(self._conversation.status(**options))

    async def status_async(self, **options: Any) -> list[VersionStatus]:
        """`status`, awaited."""
        return await self._run_async(self._conversation.status(**options))

    def metadata(self, **options: Any) -> Metadata:
        """Signatures of the version that would answer now."""
        return self._run(self._conversation.metadata(**options))

    async def metadata_async(self, **options: Any) -> Metadata:
        """`metadata`, awaited."""
        return await self._run_async(self._conversation.metadata(**options))

    def wait_until_available(self, timeout: float = 60.0, version: int | None = None) -> int:
        """Block until a version can answer; returns its number.

        Raises:
            ClientError: DEADLINE_EXCEEDED with the last state seen, or the load error of
                `version` as soon as the server has given it up.
        """
        return self._run(self._conversation.wait(timeout, version))

    async def wait_until_available_async(
        self, timeout: float = 60.0, version: int | None = None
    ) -> int:
        """`wait_until_available`, awaited."""
        return await self._run_async(self._conversation.wait(timeout, version))

    def reload_config(
        self, config: model_server_config_pb2.ModelServerConfig, timeout: float | None = None
    ) -> None:
        """Replace the server's whole configuration (gRPC only; models not listed are unloaded)."""
        self._run(self._conversation.reload(config, timeout))

    # --- connection ------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections of blocking calls."""
        self._transport.close()

    async def close_async(self) -> None:
        """Close every connection."""
        await self._transport.close_async()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close_async()

    def _run(self, steps: Steps) -> Any:
        return drive(steps, self._transport)

    async def _run_async(self, steps: Steps) -> Any:
        return await drive_async(steps, self._transport)


def _transport(address: str, tls: TLS | None) -> GrpcTransport | RestTransport:
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "grpc", address
    if scheme not in _SCHEMES or not rest:
        raise ValueError(
            f"address {address!r}: expected host:port, or one of grpc://, grpcs://, http://, "
            "https:// and a host"
        )
    if tls is not None and scheme not in _SECURE:
        raise ValueError(f"address {address!r}: TLS needs grpcs:// or https://")
    if scheme in _SECURE and tls is None:
        tls = TLS()
    if scheme.startswith("grpc"):
        return GrpcTransport(rest, tls)
    return RestTransport(f"{scheme}://{rest}", tls)
