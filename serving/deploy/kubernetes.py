"""Kubernetes manifests of the model server."""

import hashlib

from serving.deploy.server_files import (
    CONFIG_FOLDER,
    GRPC_PORT,
    MODELS_FOLDER,
    REST_PORT,
    server_files,
    server_flags,
)
from serving.deploy.settings import DeploySettings
from serving.server_config import DEFAULT_METRICS_PATH

_NOBODY = 65534


def manifests(settings: DeploySettings) -> dict[str, dict]:
    """File stem -> manifest, in the order to apply them in."""
    return {
        "10-configmap": _configmap(settings),
        "20-deployment": _deployment(settings),
        "30-service": _service(settings, headless=False),
        "31-service-grpc": _service(settings, headless=True),
        "40-disruption-budget": _disruption_budget(settings),
        "41-autoscaler": _autoscaler(settings),
    }


def _configmap(settings: DeploySettings) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(settings, f"{settings.model}-config"),
        "data": server_files(settings),
    }


def _deployment(settings: DeploySettings) -> dict:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(settings, settings.model),
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": _selector(settings)},
            # A new pod must serve before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _ONE_MORE_NONE_LESS},
            "template": {
                "metadata": {"labels": _selector(settings), "annotations": _annotations(settings)},
                "spec": _pod(settings),
            },
        },
    }


_ONE_MORE_NONE_LESS = {"maxSurge": 1, "maxUnavailable": 0}


def _annotations(settings: DeploySettings) -> dict[str, str]:
    # Flags and batching are read once, so a change of them must roll the pods. models.config is
    # not part of the hash: the servers poll it, and a release must not restart them.
    read_once = [*server_flags(settings), server_files(settings)["batching.config"]]
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST_PORT),
        "prometheus.io/path": DEFAULT_METRICS_PATH,
        "config-hash": hashlib.sha256("\n".join(read_once).encode()).hexdigest()[:16],
    }


def _pod(settings: DeploySettings) -> dict:
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 45,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "fsGroup": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(settings)],
        "volumes": [
            {
                "name": "models",
                "persistentVolumeClaim": {"claimName": settings.claim, "readOnly": True},
            },
            # Mounted as a folder: a file mounted by subPath would never see an update.
            {"name": "config", "configMap": {"name": f"{settings.model}-config"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(settings: DeploySettings) -> dict:
    amount = {"cpu": str(settings.cpu), "memory": f"{settings.memory_mb}Mi"}
    return {
        "name": "model-server",
        "image": settings.image,
        "args": server_flags(settings),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "rest", "containerPort": REST_PORT},
        ],
        # The ports open only when every model can answer, so loading is the startup probe's time.
        "startupProbe": {**_probe(settings), "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**_probe(settings), "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {
            "tcpSocket": {"port": "grpc"},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        # Endpoints are withdrawn while this sleeps; the server then finishes what is in flight.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "10"]}}},
        "resources": {"requests": amount, "limits": {"memory": amount["memory"]}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS_FOLDER, "readOnly": True},
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _probe(settings: DeploySettings) -> dict:
    path = f"/v1/models/{settings.model}"
    return {"httpGet": {"path": path, "port": "rest"}, "timeoutSeconds": 3}


def _service(settings: DeploySettings, headless: bool) -> dict:
    """The usual service; headless for gRPC clients, which balance over the pods themselves."""
    ports = [{"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc"}]
    if not headless:
        ports.append({"name": "rest", "port": REST_PORT, "targetPort": "rest"})
    name = f"{settings.model}-grpc" if headless else settings.model
    spec = {"selector": _selector(settings), "ports": ports}
    if headless:
        spec["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(settings, name),
        "spec": spec,
    }


def _disruption_budget(settings: DeploySettings) -> dict:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(settings, settings.model),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(settings)}},
    }


def _autoscaler(settings: DeploySettings) -> dict:
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(settings, settings.model),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": settings.model,
            },
            "minReplicas": settings.replicas,
            "maxReplicas": settings.max_replicas,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    }


def _selector(settings: DeploySettings) -> dict[str, str]:
    return {"app.kubernetes.io/name": "model-server", "app.kubernetes.io/instance": settings.model}


def _metadata(settings: DeploySettings, name: str) -> dict:
    return {"name": name, "namespace": settings.namespace, "labels": _selector(settings)}
