"""Checks a rendered deployment without a cluster: each file by its schema, then file against file.

Edited files are checked just as rendered ones; what is wrong is told per file and key.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from serving.deploy.compose_schema import Compose
from serving.deploy.kubernetes_schema import KINDS, ConfigMap, Container, Deployment, Strict
from serving.deploy.monitoring import METRICS, SOURCE
from serving.deploy.monitoring_schema import Alerts, Dashboard, Prometheus
from serving.deploy.server_files import CONFIG_FOLDER, FLAGS, MODELS_FOLDER, REST_PORT
from serving.server_config import (
    ServerConfigError,
    read_batching_parameters,
    read_models_config,
    read_monitoring_config,
)

_METRIC = re.compile(r":tensorflow:[a-z_:]+")
_READERS: dict[str, Callable[[Path], Any]] = {
    "models.config": read_models_config,
    "batching.config": read_batching_parameters,
    "monitoring.config": read_monitoring_config,
}

Problems = Iterator[str]


def validate(directory: str | Path) -> list[str]:
    """Problems found in a rendered deployment, one line each; [] when it is sound.

    Raises:
        FileNotFoundError: no such directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory")
    return [
        *_server_files(directory / "server", "server"),
        *_compose(directory / "compose.yaml"),
        *_kubernetes(directory / "kubernetes"),
        *_prometheus(directory / "prometheus"),
        *_dashboard(directory / "grafana" / "dashboards" / "model-server.json"),
    ]


def _server_files(folder: Path, where: str) -> Problems:
    for name, read in _READERS.items():
        try:
            found = read(folder / name)
        except ServerConfigError as error:
            yield f"{where}/{name}: {str(error).removeprefix(f'{folder / name}: ')}"
            continue
        if name == "models.config":
            yield from _models(found, f"{where}/{name}")


def _models(config: Any, where: str) -> Problems:
    if not config.model_config_list.config:
        yield f"{where}: lists no model"
    for model in config.model_config_list.config:
        if not model.base_path.startswith(f"{MODELS_FOLDER}/"):
            yield f"{where}: base_path {model.base_path!r} is not under {MODELS_FOLDER}"
        served = set(model.model_version_policy.specific.versions)
        for label, version in sorted(model.version_labels.items()):
            if served and version not in served:
                yield f"{where}: label {label!r} names version {version}, which is not served"


def _compose(path: Path) -> Problems:
    compose, problems = _read(Compose, path, path.name)
    yield from problems
    if compose is None:
        return
    for name, service in compose.services.items():
        yield from _flags(service.command, f"{path.name}: service {name}")
        for volume in service.volumes:
            source = volume.split(":")[0]
            if source.startswith("./") and not (path.parent / source).exists():
                yield f"{path.name}: service {name}: mounts {source}, which is not rendered"
            if not source.startswith(("/", ".")) and source not in compose.volumes:
                yield f"{path.name}: service {name}: volume {source!r} is not declared"
        for other in service.depends_on:
            if other not in compose.services:
                yield f"{path.name}: service {name}: depends on unknown service {other!r}"


def _kubernetes(folder: Path) -> Problems:
    parsed: list[tuple[str, Strict]] = []
    for path in sorted(folder.glob("*.yaml")):
        where = f"kubernetes/{path.name}"
        data, problem = _load(path, where)
        kind = data.get("kind") if isinstance(data, dict) else None
        if problem or kind not in KINDS:
            yield problem or f"{where}: kind {kind!r}, expected one of {', '.join(KINDS)}"
            continue
        manifest, problems = _parse(KINDS[kind], data, where)
        yield from problems
        if manifest is not None:
            parsed.append((where, manifest))
    deployments = [(where, m) for where, m in parsed if isinstance(m, Deployment)]
    if len(deployments) != 1:
        yield f"kubernetes: expected one Deployment, found {len(deployments)}"
        return
    yield from _deployment(*deployments[0])
    yield from _references(parsed, deployments[0][1])


def _deployment(where: str, deployment: Deployment) -> Problems:
    pod = deployment.spec.template.spec
    if deployment.spec.selector.match_labels != deployment.spec.template.metadata.labels:
        yield f"{where}: the selector does not match the pod's labels"
    volumes = {volume.name for volume in pod.volumes}
    for container in pod.containers:
        name = f"{where}: container {container.name}"
        yield from _flags(container.args, name)
        yield from _ports(container, name)
        for mount in container.volume_mounts:
            if mount.name not in volumes:
                yield f"{name}: mounts the unknown volume {mount.name!r}"


def _ports(container: Container, where: str) -> Problems:
    names = {port.name for port in container.ports}
    for kind in ("startup_probe", "readiness_probe", "liveness_probe"):
        probe = getattr(container, kind)
        target = probe.http_get or probe.tcp_socket
        if target is None:
            yield f"{where}: {kind} probes nothing"
        elif isinstance(target.port, str) and target.port not in names:
            yield f"{where}: {kind} uses the unknown port {target.port!r}"


def _references(parsed: list[tuple[str, Strict]], deployment: Deployment) -> Problems:
    """What the other manifests say of the Deployment, and it of them."""
    pod = deployment.spec.template
    configmaps = {m.metadata.name: m for _, m in parsed if isinstance(m, ConfigMap)}
    for volume in pod.spec.volumes:
        if volume.config_map and volume.config_map.name not in configmaps:
            yield f"kubernetes: the ConfigMap {volume.config_map.name!r} is mounted but not there"
    ports = {port.name for container in pod.spec.containers for port in container.ports}
    for where, manifest in parsed:
        if manifest.metadata.namespace != deployment.metadata.namespace:
            yield f"{where}: namespace differs from the Deployment's"
        if isinstance(manifest, ConfigMap):
            yield from _configmap(manifest, where)
        if manifest.kind == "Service":
            if manifest.spec.selector.items() - pod.metadata.labels.items():
                yield f"{where}: selects no pod of the Deployment"
            for port in manifest.spec.ports:
                if isinstance(port.target_port, str) and port.target_port not in ports:
                    yield f"{where}: targets the unknown port {port.target_port!r}"
        if manifest.kind == "HorizontalPodAutoscaler":
            if manifest.spec.scale_target_ref.name != deployment.metadata.name:
                yield f"{where}: scales an unknown Deployment"
            if manifest.spec.max_replicas < manifest.spec.min_replicas:
                yield f"{where}: maxReplicas is below minReplicas"


def _configmap(manifest: ConfigMap, where: str) -> Problems:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in manifest.data.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        yield from _server_files(Path(folder), where)


def _flags(arguments: list[str], where: str) -> Problems:
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if flag.removeprefix("--") not in FLAGS or not flag.startswith("--"):
            yield f"{where}: tensorflow_model_server has no flag {argument!r}"
        elif value.startswith(CONFIG_FOLDER) and Path(value).name not in _READERS:
            yield f"{where}: {argument} names a file that is not rendered"


def _prometheus(folder: Path) -> Problems:
    config, problems = _read(Prometheus, folder / "prometheus.yml", "prometheus/prometheus.yml")
    yield from problems
    alerts, problems = _read(Alerts, folder / "alerts.yml", "prometheus/alerts.yml")
    yield from problems
    if config is not None:
        statics = [item for scrape in config.scrape_configs for item in scrape.static_configs]
        targets = [target for item in statics for target in item.targets]
        if not any(target.endswith(f":{REST_PORT}") for target in targets):
            yield f"prometheus/prometheus.yml: scrapes no target on port {REST_PORT}"
        for name in config.rule_files:
            if not (folder / name).is_file():
                yield f"prometheus/prometheus.yml: the rule file {name} is missing"
    for group in alerts.groups if alerts is not None else ():
        for rule in group.rules:
            yield from _expression(rule.expr, f"prometheus/alerts.yml: {rule.alert}")


def _dashboard(path: Path) -> Problems:
    where = f"grafana/dashboards/{path.name}"
    dashboard, problems = _read(Dashboard, path, where)
    yield from problems
    if dashboard is None:
        return
    if len({panel.id for panel in dashboard.panels}) != len(dashboard.panels):
        yield f"{where}: two panels have one id"
    for panel in dashboard.panels:
        for target in panel.targets:
            if target.datasource.uid != SOURCE:
                yield f"{where}: panel {panel.title!r} uses an unknown data source"
            yield from _expression(target.expr, f"{where}: panel {panel.title!r}")


def _expression(expression: str, where: str) -> Problems:
    if expression.count("(") != expression.count(")"):
        yield f"{where}: unbalanced expression {expression!r}"
    for metric in _METRIC.findall(expression):
        if re.sub("_(bucket|sum|count)$", "", metric) not in METRICS and metric not in METRICS:
            yield f"{where}: the server has no metric {metric!r}"


def _read(model: type[BaseModel], path: Path, where: str) -> tuple[Any, list[str]]:
    """The file as `model`, or None and what is wrong with it."""
    data, problem = _load(path, where)
    return (None, [problem]) if problem else _parse(model, data, where)


def _load(path: Path, where: str) -> tuple[Any, str | None]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")), None  # JSON is YAML too
    except FileNotFoundError:
        return None, f"{where}: is missing"
    except (yaml.YAMLError, ValueError) as error:
        return None, f"{where}: {' '.join(str(error).split())}"


def _parse(model: type[BaseModel], data: Any, where: str) -> tuple[Any, list[str]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "the file"
            lines.append(f"{where}: {key}: {problem['msg']}")
        return None, lines
