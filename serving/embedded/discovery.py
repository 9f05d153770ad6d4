"""Which versions are on disk, and which of them a policy wants."""

import logging
from pathlib import Path

from tensorflow_serving.config import file_system_storage_path_source_pb2

logger = logging.getLogger(__name__)

VersionPolicy = (
    file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
)
_INT64_LIMIT = 2**63


def list_versions(base_path: Path) -> dict[int, Path]:
    """Versions below a base path: every child whose name is an integer that int64 holds.

    Only names are looked at. When two names mean one number the later in order of name is left
    out with a warning.

    Raises:
        FileNotFoundError: the base path does not exist or cannot be listed.
    """
    try:
        names = sorted(child.name for child in base_path.iterdir())
    except OSError as error:
        raise FileNotFoundError(f"Could not find base path {base_path}: {error}") from error
    found: dict[int, Path] = {}
    for name in names:
        version = _parse_version(name)
        if version is None:
            continue
        if version in found:
            logger.warning("Duplicate version %d in %s: %s ignored", version, base_path, name)
            continue
        found[version] = base_path / name
    return found


def _parse_version(name: str) -> int | None:
    if not (name.isascii() and name.isdigit()) or len(name) > 64:
        return None
    version = int(name)
    return version if version < _INT64_LIMIT else None


def wanted_versions(found: dict[int, Path], policy: VersionPolicy) -> dict[int, Path]:
    """The part of `found` that a version policy asks for; `latest 1` when none is set."""
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return dict(found)
    if choice == "specific":
        wanted = list(policy.specific.versions)
        for version in sorted(set(wanted) - set(found)):
            logger.warning("Version %d is asked for by the policy but is not on disk", version)
        return {version: found[version] for version in wanted if version in found}
    count = max(1, policy.latest.num_versions)
    return {version: found[version] for version in sorted(found, reverse=True)[:count]}
