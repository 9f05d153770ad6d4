"""Renders a deployment into a directory:

server/                 models.config, batching.config, monitoring.config
compose.yaml            docker compose up
prometheus/  grafana/   mounted by it
kubernetes/             kubectl apply -f kubernetes/
"""

import json
import shutil
import tempfile
from pathlib import Path

import yaml

from serving.deploy.compose import compose
from serving.deploy.kubernetes import manifests
from serving.deploy.monitoring import (
    alert_rules,
    dashboard,
    grafana_provisioning,
    prometheus_config,
)
from serving.deploy.server_files import server_files
from serving.deploy.settings import DeploySettings


def render(settings: DeploySettings, output: str | Path, *, replace: bool = False) -> list[Path]:
    """Write every file; returns their paths. The directory appears whole, by one rename.

    Args:
        settings: what to render.
        output: the directory.
        replace: whether a rendered directory that is there may be replaced.

    Raises:
        FileExistsError: `output` is there and is not to be replaced, or is something else.
    """
    output = Path(output)
    if output.exists() and not (replace and (output / "compose.yaml").is_file()):
        raise FileExistsError(f"{output} exists; give another directory or ask to replace it")
    output.parent.mkdir(parents=True, exist_ok=True)
    files = rendered_files(settings)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as staging:
        aside = Path(staging) / "new"
        for name, text in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text(text, encoding="utf-8")
        if output.exists():
            shutil.move(output, Path(staging) / "old")
        aside.rename(output)
    return [output / name for name in files]


def rendered_files(settings: DeploySettings) -> dict[str, str]:
    """Relative path -> text of every file."""
    data = {
        "compose.yaml": compose(settings),
        "prometheus/prometheus.yml": prometheus_config(settings),
        "prometheus/alerts.yml": alert_rules(settings),
        **{f"grafana/provisioning/{p}": d for p, d in grafana_provisioning().items()},
        **{f"kubernetes/{stem}.yaml": d for stem, d in manifests(settings).items()},
    }
    return {
        **{f"server/{name}": text for name, text in server_files(settings).items()},
        **{name: yaml.dump(d, Dumper=_Dumper, sort_keys=False) for name, d in data.items()},
        "grafana/dashboards/model-server.json": json.dumps(dashboard(settings), indent=2) + "\n",
    }


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; no anchors for parts that occur twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _block_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block_text)
