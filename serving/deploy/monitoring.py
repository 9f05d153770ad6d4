"""Prometheus and Grafana: what is scraped, what alerts, what is drawn."""

from serving.deploy.compose import SERVER
from serving.deploy.server_files import REST_PORT
from serving.deploy.settings import DeploySettings
from serving.server_config import DEFAULT_METRICS_PATH

SOURCE = "prometheus"
_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
_RUNTIME = ":tensorflow:serving:runtime_latency"
_QUEUE = ":tensorflow:serving:batching_session:queuing_latency"
_BATCH = ":tensorflow:serving:batching_session:input_batch_size"
METRICS = frozenset({_COUNT, _LATENCY, _RUNTIME, _QUEUE, _BATCH})


def prometheus_config(settings: DeploySettings) -> dict:
    """prometheus.yml as data."""
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": settings.model,
                "metrics_path": DEFAULT_METRICS_PATH,
                "static_configs": [{"targets": [f"{SERVER}:{REST_PORT}"]}],
            }
        ],
    }


def alert_rules(settings: DeploySettings) -> dict:
    """alerts.yml as data: no server, errors, slow."""
    rules = [
        ("ModelServerDown", f'up{{job="{settings.model}"}} == 0', "2m", "no scrape succeeds"),
        ("ModelServerErrors", f"{_error_share()} > 0.01", "5m", "over 1 % of requests fail"),
        (
            "ModelServerSlow",
            f"{_quantile(0.99, _LATENCY, 'le')} > {settings.p99_ms}",
            "5m",
            f"p99 of requests is over {settings.p99_ms:g} ms",
        ),
    ]
    return {
        "groups": [
            {
                "name": settings.model,
                "rules": [
                    {
                        "alert": alert,
                        "expr": expression,
                        "for": lasting,
                        "labels": {"model": settings.model},
                        "annotations": {"summary": summary},
                    }
                    for alert, expression, lasting, summary in rules
                ],
            }
        ]
    }


def grafana_provisioning() -> dict[str, dict]:
    """Path under grafana/provisioning -> YAML data."""
    source = {
        "name": "Prometheus",
        "uid": SOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
    }
    provider = {
        "name": "model server",
        "type": "file",
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    return {
        "datasources/prometheus.yaml": {"apiVersion": 1, "datasources": [source]},
        "dashboards/files.yaml": {"apiVersion": 1, "providers": [provider]},
    }


def dashboard(settings: DeploySettings) -> dict:
    """The Grafana dashboard as data."""
    panels = [
        ("Requests per second", "reqps", [(f"sum by (status) (rate({_COUNT}[1m]))", "{{status}}")]),
        ("Share of failed requests", "percentunit", [(_error_share(), "failed")]),
        ("Request latency", "ms", _percentiles(_LATENCY, "entrypoint")),
        ("Graph run time", "ms", _percentiles(_RUNTIME, "model_name")),
        ("Time in the batching queue", "ms", _percentiles(_QUEUE, None)),
        (
            "Rows per batch",
            "short",
            [(f"sum(rate({_BATCH}_sum[1m])) / sum(rate({_BATCH}_count[1m]))", "mean")],
        ),
    ]
    return {
        "uid": f"ctr-{settings.model}"[:40],
        "title": f"Model server: {settings.model}",
        "tags": ["model-server"],
        "timezone": "utc",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [_panel(index, *panel) for index, panel in enumerate(panels)],
    }


def _panel(index: int, title: str, unit: str, queries: list[tuple[str, str]]) -> dict:
    source = {"type": "prometheus", "uid": SOURCE}
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": 12 * (index % 2), "y": 8 * (index // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
            }
            for number, (expression, legend) in enumerate(queries)
        ],
    }


def _percentiles(metric: str, label: str | None) -> list[tuple[str, str]]:
    by = "le" if label is None else f"le, {label}"
    suffix = "" if label is None else f" {{{{{label}}}}}"
    return [(_quantile(q, metric, by), f"p{round(100 * q)}{suffix}") for q in (0.5, 0.95, 0.99)]


def _quantile(q: float, metric: str, by: str) -> str:
    """Milliseconds: the server counts in microseconds."""
    return f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket[1m]))) / 1000"


def _error_share() -> str:
    failed = f'sum(rate({_COUNT}{{status!="OK"}}[5m])) or vector(0)'
    return f"({failed}) / sum(rate({_COUNT}[5m]))"
