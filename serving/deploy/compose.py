"""docker compose: the model server, Prometheus and Grafana on one host."""

from serving.deploy.server_files import (
    CONFIG_FOLDER,
    GRPC_PORT,
    MODELS_FOLDER,
    REST_PORT,
    server_flags,
)
from serving.deploy.settings import GRAFANA_IMAGE, PROMETHEUS_IMAGE, DeploySettings

SERVER = "model-server"


def compose(settings: DeploySettings) -> dict:
    """compose.yaml as data. Ports are published on 127.0.0.1 only: nothing here authenticates."""
    return {
        "name": settings.model,
        "services": {
            SERVER: _server(settings),
            "prometheus": {
                "image": PROMETHEUS_IMAGE,
                "volumes": ["./prometheus:/etc/prometheus:ro", "prometheus-data:/prometheus"],
                "ports": ["127.0.0.1:9090:9090"],
                "depends_on": {SERVER: {"condition": "service_healthy"}},
                "restart": "unless-stopped",
            },
            "grafana": {
                "image": GRAFANA_IMAGE,
                "volumes": [
                    "./grafana/provisioning:/etc/grafana/provisioning:ro",
                    "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
                    "grafana-data:/var/lib/grafana",
                ],
                "ports": ["127.0.0.1:3000:3000"],
                "depends_on": ["prometheus"],
                "restart": "unless-stopped",
            },
        },
        "volumes": {"prometheus-data": {}, "grafana-data": {}},
    }


def _server(settings: DeploySettings) -> dict:
    # The image carries no curl; bash opens the connection itself.
    probe = (
        f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT}; "
        f"printf 'GET /v1/models/{settings.model} HTTP/1.0\\r\\n\\r\\n' >&3; "
        "grep -q AVAILABLE <&3"
    )
    return {
        "image": settings.image,
        "command": server_flags(settings),
        "volumes": [
            f"{settings.repository}:{MODELS_FOLDER}:ro",
            f"./server:{CONFIG_FOLDER}:ro",
        ],
        "ports": [
            f"127.0.0.1:{GRPC_PORT}:{GRPC_PORT}",
            f"127.0.0.1:{REST_PORT}:{REST_PORT}",
        ],
        "healthcheck": {
            "test": ["CMD", "bash", "-c", probe],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "60s",
        },
        "deploy": {
            "resources": {"limits": {"cpus": str(settings.cpu), "memory": f"{settings.memory_mb}M"}}
        },
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": "30s",
        "restart": "unless-stopped",
    }
