"""The part of the Kubernetes API that the rendered manifests may use.

Names and types follow the API reference; unknown keys and wrong types are refused, as a cluster
with strict validation refuses them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$")]
Labels = dict[LabelKey, Annotated[str, Field(pattern=r"^[A-Za-z0-9]?[-A-Za-z0-9_.]{0,62}$")]]
Port = Annotated[int, Field(ge=1, le=65535)]
PortName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi)?$")]
Positive = Annotated[int, Field(ge=1)]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]


class Strict(BaseModel):
    """Refuses unknown keys and does not turn text into numbers; keys are in camelCase."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    name: Name
    namespace: Name
    labels: Labels


class ConfigMap(Strict):
    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: Metadata
    data: dict[Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$")], str]


class ContainerPort(Strict):
    name: PortName
    container_port: Port


class HttpGet(Strict):
    path: AbsolutePath
    port: Port | PortName


class TcpSocket(Strict):
    port: Port | PortName


class Probe(Strict):
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    period_seconds: Positive
    failure_threshold: Positive
    timeout_seconds: Positive = 1


class Exec(Strict):
    command: list[str]


class Handler(Strict):
    exec: Exec


class Lifecycle(Strict):
    pre_stop: Handler


class Resources(Strict):
    requests: dict[Literal["cpu", "memory"], Quantity]
    limits: dict[Literal["cpu", "memory"], Quantity]


class Capabilities(Strict):
    drop: list[str]


class ContainerSecurity(Strict):
    allow_privilege_escalation: bool
    read_only_root_filesystem: bool
    capabilities: Capabilities


class VolumeMount(Strict):
    name: Name
    mount_path: AbsolutePath
    read_only: bool = False


class Container(Strict):
    name: Name
    image: Annotated[str, Field(pattern=r"^[a-z0-9./_-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$")]
    args: list[str]
    ports: list[ContainerPort]
    startup_probe: Probe
    readiness_probe: Probe
    liveness_probe: Probe
    lifecycle: Lifecycle
    resources: Resources
    security_context: ContainerSecurity
    volume_mounts: list[VolumeMount]


class Claim(Strict):
    claim_name: Name
    read_only: bool


class ConfigMapSource(Strict):
    name: Name


class EmptyDir(Strict):
    pass


class Volume(Strict):
    name: Name
    persistent_volume_claim: Claim | None = None
    config_map: ConfigMapSource | None = None
    empty_dir: EmptyDir | None = None


class Seccomp(Strict):
    type: Literal["RuntimeDefault"]


class PodSecurity(Strict):
    run_as_non_root: bool
    run_as_user: Positive
    run_as_group: Positive
    fs_group: Positive
    seccomp_profile: Seccomp


class PodSpec(Strict):
    automount_service_account_token: bool
    termination_grace_period_seconds: Positive
    security_context: PodSecurity
    containers: list[Container]
    volumes: list[Volume]


class PodMetadata(Strict):
    labels: Labels
    annotations: dict[LabelKey, str]


class Template(Strict):
    metadata: PodMetadata
    spec: PodSpec


class Selector(Strict):
    match_labels: Labels


class RollingUpdate(Strict):
    max_surge: int
    max_unavailable: int


class Strategy(Strict):
    type: Literal["RollingUpdate"]
    rolling_update: RollingUpdate


class DeploymentSpec(Strict):
    replicas: Positive
    selector: Selector
    strategy: Strategy
    template: Template


class Deployment(Strict):
    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: Metadata
    spec: DeploymentSpec


class ServicePort(Strict):
    name: PortName
    port: Port
    target_port: Port | PortName


class ServiceSpec(Strict):
    selector: Labels
    ports: list[ServicePort]
    cluster_ip: Annotated[Literal["None"] | None, Field(alias="clusterIP")] = None


class Service(Strict):
    api_version: Literal["v1"]
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec


class BudgetSpec(Strict):
    max_unavailable: int
    selector: Selector


class PodDisruptionBudget(Strict):
    api_version: Literal["policy/v1"]
    kind: Literal["PodDisruptionBudget"]
    metadata: Metadata
    spec: BudgetSpec


class ScaleTarget(Strict):
    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    name: Name


class UtilizationTarget(Strict):
    type: Literal["Utilization"]
    average_utilization: Annotated[int, Field(ge=1, le=100)]


class ResourceMetric(Strict):
    name: Literal["cpu"]
    target: UtilizationTarget


class Metric(Strict):
    type: Literal["Resource"]
    resource: ResourceMetric


class AutoscalerSpec(Strict):
    scale_target_ref: ScaleTarget
    min_replicas: Positive
    max_replicas: Positive
    metrics: list[Metric]


class HorizontalPodAutoscaler(Strict):
    api_version: Literal["autoscaling/v2"]
    kind: Literal["HorizontalPodAutoscaler"]
    metadata: Metadata
    spec: AutoscalerSpec


KINDS: dict[str, type[Strict]] = {
    kind.__name__: kind
    for kind in (
        ConfigMap,
        Deployment,
        Service,
        PodDisruptionBudget,
        HorizontalPodAutoscaler,
    )
}
