"""The parts of prometheus.yml, of a rules file and of a Grafana dashboard that are rendered."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Duration = Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m|h|d)$")]
HostPort = Annotated[str, Field(pattern=r"^[a-z0-9.-]+:[0-9]{1,5}$")]
Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """Refuses unknown keys and does not turn text into numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)


class GlobalSettings(Strict):
    scrape_interval: Duration
    evaluation_interval: Duration


class StaticTargets(Strict):
    targets: Annotated[list[HostPort], Field(min_length=1)]


class Scrape(Strict):
    job_name: Text
    metrics_path: Annotated[str, Field(pattern=r"^/")]
    static_configs: Annotated[list[StaticTargets], Field(min_length=1)]


class Prometheus(Strict):
    global_: Annotated[GlobalSettings, Field(alias="global")]
    rule_files: list[str]
    scrape_configs: Annotated[list[Scrape], Field(min_length=1)]


class Alert(Strict):
    alert: Text
    expr: Text
    for_: Annotated[Duration, Field(alias="for")]
    labels: dict[str, str]
    annotations: dict[str, str]


class AlertGroup(Strict):
    name: Text
    rules: Annotated[list[Alert], Field(min_length=1)]


class Alerts(Strict):
    groups: Annotated[list[AlertGroup], Field(min_length=1)]


class Camel(BaseModel):
    """Grafana's keys; it ignores those it does not know, so they are only noise here too."""

    model_config = ConfigDict(extra="ignore", strict=True, alias_generator=to_camel)


class Datasource(Camel):
    type: Literal["prometheus"]
    uid: Text


class Query(Camel):
    ref_id: Text
    datasource: Datasource
    expr: Text
    legend_format: str


class Position(Camel):
    x: Annotated[int, Field(ge=0, le=23)]
    y: Annotated[int, Field(ge=0)]
    w: Annotated[int, Field(ge=1, le=24)]
    h: Annotated[int, Field(ge=1)]


class Panel(Camel):
    id: int
    type: Text
    title: Text
    grid_pos: Position
    targets: Annotated[list[Query], Field(min_length=1)]


class Dashboard(Camel):
    uid: Annotated[str, Field(min_length=1, max_length=40)]
    title: Text
    schema_version: int
    panels: Annotated[list[Panel], Field(min_length=1)]
