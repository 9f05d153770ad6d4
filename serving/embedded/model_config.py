"""Meaning of a ModelServerConfig: what is legal, and what may replace what."""

import re
from dataclasses import dataclass

from serving.embedded.discovery import VersionPolicy
from serving.embedded.errors import invalid_argument
from serving.server_config import ModelServerConfig

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TENSORFLOW = "tensorflow"


@dataclass(frozen=True)
class ModelEntry:
    """One model of the configuration."""

    name: str
    base_path: str
    platform: str
    policy: VersionPolicy
    labels: dict[str, int]


def read_entries(config: ModelServerConfig) -> dict[str, ModelEntry]:
    """Validated models of a configuration, by name.

    Raises:
        ServingError: INVALID_ARGUMENT naming the model and what is wrong with it.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument("ServerModelConfig must contain a model_config_list")
    entries: dict[str, ModelEntry] = {}
    for item in config.model_config_list.config:
        if not item.name:
            raise invalid_argument("Illegal to list a model without a name in config list")
        if item.name in entries:
            raise invalid_argument(
                f"Illegal to list model {item.name} multiple times in config list"
            )
        _check_base_path(item.name, item.base_path)
        entries[item.name] = ModelEntry(
            name=item.name,
            base_path=item.base_path,
            platform=_platform(item),
            policy=item.model_version_policy,
            labels=dict(item.version_labels),
        )
    return entries


def _check_base_path(name: str, base_path: str) -> None:
    if not (base_path.startswith("/") or _URI.match(base_path)):
        raise invalid_argument(
            f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}"
        )
    if ".." in base_path.split("/"):
        raise invalid_argument(
            f"Model {name}: base_path()={base_path} must not climb directories with '..'"
        )
    if _URI.match(base_path) or "\0" in base_path:
        raise invalid_argument(
            f"Model {name}: base_path()={base_path} is not on a local file system, the only kind "
            "this server reads"
        )


def _platform(item: object) -> str:
    if item.model_type and item.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type(deprecated) and model_platform."
        )
    platform = _TENSORFLOW if item.model_type == 1 else item.model_platform
    if not platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type(deprecated) nor model_platform."
        )
    if platform != _TENSORFLOW:
        raise invalid_argument(
            f"Model {item.name}: no adapter for model_platform {platform}; expected tensorflow"
        )
    return platform
