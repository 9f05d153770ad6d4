"""The recipe of the worker's image has what the project pins."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_workers_image_has_the_projects_beam_and_all_of_its_packages() -> None:
    recipe = (ROOT / "preprocessing/worker/Dockerfile").read_text(encoding="utf-8")
    (image,) = re.findall(r"^FROM apache/beam_python\$\{PYTHON\}_sdk:(\S+)$", recipe, re.M)
    pins = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").open()]
    assert f"apache-beam=={image}" in pins
    copied = {word for line in re.findall(r"^COPY (.+)$", recipe, re.M) for word in line.split()}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages | {"requirements.txt", "constraints.txt", "pyproject.toml"} <= copied
    assert all((ROOT / name).exists() for name in copied)
