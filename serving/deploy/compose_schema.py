"""The part of the Compose specification that the rendered compose.yaml may use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]
Duration = Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m|h)$")]
Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Refuses unknown keys and does not turn text into numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NamedVolume(Strict):
    pass


class Healthcheck(Strict):
    test: list[str]
    interval: Duration
    timeout: Duration
    retries: Positive
    start_period: Duration


class ComposeLimits(Strict):
    cpus: str
    memory: Annotated[str, Field(pattern=r"^[0-9]+[bkmgBKMG]$")]


class ComposeResources(Strict):
    limits: ComposeLimits


class ComposeDeploy(Strict):
    resources: ComposeResources


class DependsOn(Strict):
    condition: Literal["service_started", "service_healthy"]


class ComposeService(Strict):
    image: str
    command: list[str] = []
    volumes: list[str]
    ports: list[Annotated[str, Field(pattern=r"^127\.0\.0\.1:\d+:\d+$")]]
    healthcheck: Healthcheck | None = None
    deploy: ComposeDeploy | None = None
    depends_on: list[str] | dict[str, DependsOn] = []
    read_only: bool = False
    tmpfs: list[AbsolutePath] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []
    stop_grace_period: Duration = "10s"
    restart: Literal["no", "always", "on-failure", "unless-stopped"] = "no"


class Compose(Strict):
    name: Name
    services: dict[str, ComposeService]
    volumes: dict[Name, NamedVolume]
