"""What a deployment is rendered from."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from serving.release import ReleaseState

IMAGE = "tensorflow/serving:2.19.1"
PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
GRAFANA_IMAGE = "grafana/grafana:12.1.0"

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$"


class DeployError(ValueError):
    """A setting of the deployment is unusable."""


class Batching(BaseModel):
    """Server-side batching; sizes in rows, time in microseconds.

    For a score_candidates request in matrix form one row is one request, so `max_batch_size`
    bounds requests there and rows in the other signatures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: Annotated[int, Field(ge=1)] = 1024
    batch_timeout_micros: Annotated[int, Field(ge=0)] = 500
    max_enqueued_batches: Annotated[int, Field(ge=1)] = 100
    num_batch_threads: Annotated[int, Field(ge=1)] = 4


class DeploySettings(BaseModel):
    """One model behind tensorflow/serving, by docker compose and by Kubernetes.

    Attributes:
        model: its name in the model repository; must be a DNS label, it names the services.
        repository: the model repository on the docker host, absolute.
        release: which version has which role; exported versions not named here are not served.
        claim: PersistentVolumeClaim that holds the model repository in the cluster.
        cpu: cores of one replica; also the size of TensorFlow's thread pools.
        memory_mb: memory of one replica, for two loaded versions.
        p99_ms: latency above which Prometheus raises an alert.

    Raises:
        DeployError: the first unusable setting, in one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    model: Annotated[str, Field(pattern=_DNS_LABEL)]
    repository: Path
    release: ReleaseState
    image: str = IMAGE
    namespace: Annotated[str, Field(pattern=_DNS_LABEL)] = "default"
    claim: Annotated[str, Field(pattern=_DNS_LABEL)] = "model-repository"
    replicas: Annotated[int, Field(ge=1)] = 2
    max_replicas: Annotated[int, Field(ge=1)] = 8
    cpu: Annotated[int, Field(ge=1)] = 2
    memory_mb: Annotated[int, Field(ge=256)] = 2048
    p99_ms: Annotated[float, Field(gt=0)] = 50.0
    batching: Batching = Batching()

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "settings"
            given = "" if key == "settings" else f", got {first['input']!r}"
            message = first["msg"].removeprefix("Value error, ")
            raise DeployError(f"deploy: {key}: {message}{given}") from error

    @field_validator("repository")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("must be absolute")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> "DeploySettings":
        if self.release.stable is None:
            raise ValueError("release: a deployment needs a stable version")
        if self.max_replicas < self.replicas:
            raise ValueError("max_replicas must not be below replicas")
        return self
