"""Where scores come from: a server (gRPC or REST), or a SavedModel loaded here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.client import Client
from serving.columns import Column, parse_columns
from serving.model_card import read_model_card
from serving.session import SavedModelSession


class Endpoint(Protocol):
    """Answers raw rows with scores."""

    columns: tuple[Column, ...]

    def predict(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`probability` (or `prediction`) and `logit`, each (B,)."""

    def explain(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The parts of each logit."""

    def close(self) -> None:
        """Free what is held."""


class ServerEndpoint:
    """A model behind a server.

    Args:
        address: `host:port` for gRPC, `http://host:port` for REST.
        model: served name.
        wait: seconds to wait for the server to have a version available.
        options: `version`, `label`, `timeout`, as `serving.client.Client` takes them.
    """

    def __init__(self, address: str, model: str, wait: float = 0.0, **options: Any) -> None:
        self._client = Client(address, model, **options)
        if wait > 0:
            self._client.wait_until_available(wait, options.get("version"))
        signature = self._client.metadata().signatures["serving_default"]
        self.columns = tuple(signature.columns().values())

    def predict(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(self._client.predict(dict(rows)))

    def explain(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(self._client.explain(dict(rows)))

    def close(self) -> None:
        self._client.close()


class LocalEndpoint:
    """A version directory of the model repository, loaded as TensorFlow Serving would."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "saved_model.pb").is_file():
            raise FileNotFoundError(
                f"{directory}: no SavedModel here; give a version directory, as in "
                "models_repository/NAME/1"
            )
        self.columns = parse_columns(read_model_card(directory)["columns"])
        self._session = SavedModelSession(directory)

    def predict(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._session.run("serving_default", self._whole(rows))

    def explain(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._session.run("explain", self._whole(rows))

    def _whole(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Missing columns filled in: every column of a request has the same length."""
        size = len(next(iter(rows.values())))
        return {
            column.name: rows[column.name]
            if column.name in rows
            else np.full(size, column.missing, object if column.dtype == "string" else np.float32)
            for column in self.columns
        }

    def close(self) -> None:
        self._session.close()
