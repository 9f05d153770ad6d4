import json
import re

import pytest
import yaml

from serving.deploy import DeployError, DeploySettings, render, validate
from serving.deploy.monitoring import METRICS
from serving.embedded.metrics import Metrics
from serving.release import ReleaseState, promote, read_state

SETTINGS = {
    "model": "ctr",
    "repository": "/srv/models",
    "release": ReleaseState(stable=3, canary=4),
}


@pytest.fixture
def deployment(tmp_path):
    render(DeploySettings(**SETTINGS), tmp_path / "deploy")
    return tmp_path / "deploy"


def test_what_is_rendered_is_sound(deployment):
    assert validate(deployment) == []
    assert [p.name for p in deployment.parent.iterdir()] == ["deploy"]


def test_roles_become_versions_and_labels(deployment):
    state = read_state(deployment / "server" / "models.config", "ctr")
    assert state == ReleaseState(stable=3, canary=4)
    configmap = yaml.safe_load((deployment / "kubernetes" / "10-configmap.yaml").read_text())
    for name in ("models.config", "batching.config", "monitoring.config"):
        assert configmap["data"][name] == (deployment / "server" / name).read_text()


def test_release_commands_work_on_the_rendered_file(deployment):
    promote(deployment / "server" / "models.config", "ctr")
    assert validate(deployment) == []
    text = (deployment / "server" / "models.config").read_text()
    assert re.search(r'key: "stable"\s+value: 4', text)


def test_only_loopback_ports_and_no_privileges(deployment):
    compose = yaml.safe_load((deployment / "compose.yaml").read_text())
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    pod = yaml.safe_load((deployment / "kubernetes" / "20-deployment.yaml").read_text())
    security = pod["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert security["allowPrivilegeEscalation"] is False


def test_readiness_asks_the_status_endpoint(deployment):
    pod = yaml.safe_load((deployment / "kubernetes" / "20-deployment.yaml").read_text())
    container = pod["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v1/models/ctr", "port": "rest"}
    compose = yaml.safe_load((deployment / "compose.yaml").read_text())
    probe = compose["services"]["model-server"]["healthcheck"]["test"][-1]
    assert "GET /v1/models/ctr HTTP/1.0\\r\\n" in probe


def test_dashboards_metrics_are_the_servers(deployment):
    dashboard = json.loads((deployment / "grafana/dashboards/model-server.json").read_text())
    assert len(dashboard["panels"]) == 6
    metrics = Metrics()
    exposed = {item.name for item in vars(metrics).values() if hasattr(item, "name")}
    assert exposed >= METRICS


def test_never_replaces_unasked_or_something_else(deployment, tmp_path):
    settings = DeploySettings(**{**SETTINGS, "release": ReleaseState(stable=9)})
    with pytest.raises(FileExistsError, match="exists"):
        render(settings, deployment)
    assert read_state(deployment / "server" / "models.config", "ctr").stable == 3
    render(settings, deployment, replace=True)
    assert read_state(deployment / "server" / "models.config", "ctr").stable == 9
    (tmp_path / "precious").mkdir()
    with pytest.raises(FileExistsError):
        render(settings, tmp_path / "precious", replace=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "My Model"}, "deploy: model: .*, got 'My Model'"),
        ({"repository": "models"}, "deploy: repository: must be absolute, got 'models'"),
        ({"batching": {"max_batch_size": 0}}, r"deploy: batching\.max_batch_size: .*, got 0"),
        ({"release": ReleaseState(canary=4)}, "needs a stable version"),
        ({"replicas": 9, "max_replicas": 3}, "must not be below"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(DeployError, match=message) as caught:
        DeploySettings(**{**SETTINGS, **change})
    assert "\n" not in str(caught.value)


BREAKS = [
    ("server/models.config", "value: 4", "value: 5", "label 'canary' names version 5"),
    ("server/models.config", "/models/ctr", "/elsewhere", "is not under /models"),
    ("server/models.config", "}", "", "Error parsing"),
    ("server/batching.config", "value: 1024", "value: 0", "max_batch_size must be at least 1"),
    ("compose.yaml", "--enable_batching", "--enable_baching", "has no flag"),
    ("compose.yaml", "127.0.0.1:8500:", "0.0.0.0:8500:", "services.model-server.ports.0"),
    ("compose.yaml", "./server", "./servers", "mounts ./servers, which is not rendered"),
    ("compose.yaml", "- prometheus\n", "- promtheus\n", "unknown service 'promtheus'"),
    ("compose.yaml", "read_only", "readonly", "Extra inputs are not permitted"),
    ("kubernetes/20-deployment.yaml", "replicas: 2", "replicas: two", "spec.replicas"),
    ("kubernetes/20-deployment.yaml", "path: /v1", "paht: /v1", "httpGet.paht"),
    ("kubernetes/20-deployment.yaml", "port: rest", "port: http", "unknown port 'http'"),
    ("kubernetes/20-deployment.yaml", "name: ctr-config", "name: other", "mounted but not there"),
    (
        "kubernetes/20-deployment.yaml",
        "- name: tmp\n        empty",
        "- name: t\n        empty",
        "'tmp'",
    ),
    ("kubernetes/30-service.yaml", "instance: ctr\n  ports", "instance: x\n  ports", "no pod"),
    ("kubernetes/30-service.yaml", "kind: Service", "kind: Servce", "kind 'Servce'"),
    ("kubernetes/41-autoscaler.yaml", "maxReplicas: 8", "maxReplicas: 1", "below minReplicas"),
    ("kubernetes/10-configmap.yaml", "value: 3", "value: 8", "'stable' names version 8"),
    ("kubernetes/31-service-grpc.yaml", "namespace: default", "namespace: x", "namespace differs"),
    ("prometheus/prometheus.yml", "model-server:8501", "model-server:9999", "no target on port"),
    ("prometheus/prometheus.yml", "alerts.yml", "alarms.yml", "alarms.yml is missing"),
    (
        "prometheus/alerts.yml",
        "request_count",
        "requests",
        "no metric ':tensorflow:serving:requests",
    ),
    ("grafana/dashboards/model-server.json", "runtime_latency", "run_latency", "no metric"),
    ("grafana/dashboards/model-server.json", '"uid": "prometheus"', '"uid": "x"', "data source"),
    ("grafana/dashboards/model-server.json", '"panels"', '"pannels"', "panels: Field required"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), BREAKS)
def test_each_fault_is_found_and_named(deployment, file, old, new, message):
    path = deployment / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    problems = validate(deployment)
    assert any(message in problem for problem in problems), problems
    assert all(file.split("/")[0] in problem for problem in problems)
    assert not any("\n" in problem for problem in problems)


def test_missing_files_are_named(deployment, tmp_path):
    (deployment / "prometheus" / "alerts.yml").unlink()
    (deployment / "server" / "batching.config").unlink()
    text = "\n".join(validate(deployment))
    assert "prometheus/alerts.yml: is missing" in text
    assert "server/batching.config: " in text
    with pytest.raises(FileNotFoundError):
        validate(tmp_path / "nowhere")
