"""Every registered model the whole way: trained, saved, reloaded, exported, served, explained."""

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from pipeline.cli import main
from pipeline.evaluation import served_inputs
from pipeline.local_server import Addresses, serving
from pipeline.parity import TOLERANCE, check_server
from pipeline.rundir import Run
from serving.client import Client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(published, tmp_path_factory) -> dict[str, Run | Exception]:
    """Each model by name, trained and exported by the commands; or what went wrong with it."""
    folder = tmp_path_factory.mktemp("every-model")
    runs: dict[str, Run | Exception] = {}
    for name in models.names():
        try:
            runs[name] = train_and_export(name, published.folder, folder)
        except Exception as error:  # one broken model must not hide the others
            runs[name] = error
        keras.utils.clear_session()
    return runs


def train_and_export(name: str, dataset: Path, folder: Path) -> Run:
    """`pipeline train` and `pipeline export` of one model."""
    config = {
        "name": served_name(name),
        "output": str(folder / "runs" / name),
        "data": {"spec": str(dataset / "clicks.yaml"), "prepared": str(dataset / "prepared")},
        "model": {"name": name},
        "training": {"epochs": 1, "batch_size": 256, "tensorboard": False, "jit_compile": False},
        "calibration": {"method": "platt"},
        "export": {"repository": str(folder / "repository")},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")
    assert main(["train", str(file), "--json"]) == 0
    assert main(["export", str(folder / "runs" / name)]) == 0
    return Run.load(folder / "runs" / name)


def served_name(name: str) -> str:
    """The name in the repository: a plus sign has no place in a URL."""
    return f"every-{name.replace('+', '-plus')}"


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory) -> Iterator[Addresses]:
    """One server with all that could be exported."""
    repository = next(run for run in exported.values() if isinstance(run, Run)).config.export
    entries = [
        f'config {{ name: "{served_name(name)}" base_path: '
        f'"{Path(repository.repository) / served_name(name)}" model_platform: "tensorflow" }}'
        for name, run in exported.items()
        if isinstance(run, Run)
    ]
    file = tmp_path_factory.mktemp("config") / "models.config"
    file.write_text(f"model_config_list {{ {' '.join(entries)} }}", encoding="utf-8")
    with serving([f"--model_config_file={file}"]) as addresses:
        yield addresses


@pytest.mark.parametrize("name", models.names())
def test_served_scores_are_the_reloaded_model_s(name, exported, server, published):
    run = exported[name]
    if isinstance(run, Exception):
        raise run
    prepared = run.load_prepared()
    for parity in check_server(run, prepared, {"gRPC": server.grpc, "REST": server.rest}):
        assert parity.rows == prepared.manifest["splits"]["test"]["rows"]
        assert parity.largest <= TOLERANCE, parity


@pytest.mark.parametrize("name", models.names())
def test_served_explanation_is_the_model_s(name, exported, server):
    run = exported[name]
    if isinstance(run, Exception):
        raise run
    prepared, model = run.load_prepared(), run.load_model()
    rows = served_inputs(prepared, "test", slice(20))
    with Client(server.grpc, served_name(name), timeout=60.0) as client:
        answer = client.explain(rows)
    inputs, *_ = next(iter(prepared.dataset("test", 20)))
    expected = model.explain(inputs)
    assert set(model.explanation_keys) <= set(answer)
    for key in model.explanation_keys:
        found = np.reshape(answer[key], expected[key].shape)
        np.testing.assert_allclose(found, expected[key], atol=1e-5, err_msg=key)
