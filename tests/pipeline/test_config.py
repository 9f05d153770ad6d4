from pathlib import Path

import pytest

import models
from models.zoo import constructor_arguments
from pipeline.config import load_config, parse_config
from pipeline.errors import PipelineError
from pipeline.optimizers import build_optimizer
from pipeline.specs import load_spec

MINIMAL = "name: a\ndata: {spec: movielens-100k}\nmodel: {name: fm, embedding_dim: 8}\n"


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_resolved_copy_loads_back_equal(tmp_path):
    config = load_config(write(tmp_path, MINIMAL), ["training.epochs=3", "model.dropout=0.5"])
    assert config.training.epochs == 3
    assert config.model.arguments == {"embedding_dim": 8, "dropout": 0.5}
    again = load_config(write(tmp_path, config.to_yaml()))
    assert again == config


def test_override_reads_numbers_in_exponent_form(tmp_path):
    config = load_config(write(tmp_path, MINIMAL), ["optimizer.learning_rate=1e-4"])
    assert config.optimizer.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("training: {epoch: 3}", ["training.epoch", "'epochs'"]),
        ("trainin: {epochs: 3}", ["trainin", "'training'"]),
        ("training: {epochs: many}", ["training.epochs", "'many'"]),
        ("training: {epochs: 0}", ["training.epochs", "greater than or equal to 1"]),
        ("training: {early_stopping: {metric: acu}}", ["early_stopping.metric", "'auc'"]),
        ("training: {early_stopping: {patiense: 1}}", ["early_stopping.patiense", "'patience'"]),
        ("training: {task: rank}", ["training.task", "'rank'"]),
    ],
)
def test_mistake_gives_one_line_with_file_key_and_hint(tmp_path, line, parts):
    path = write(tmp_path, MINIMAL + line)
    with pytest.raises(PipelineError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in [str(path), *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("override", "part"),
    [("training.epochs", "KEY=VALUE"), ("name.x=1", "name is 'a'"), ("training.epchs=1", "epochs")],
)
def test_bad_override(tmp_path, override, part):
    with pytest.raises(PipelineError, match=part):
        load_config(write(tmp_path, MINIMAL), [override])


def test_yaml_error_names_the_line(tmp_path):
    with pytest.raises(PipelineError, match=r"run.yaml: line 3 not valid YAML"):
        load_config(write(tmp_path, "name: a\ndata: {spec: x\nmodel: ["))


def test_missing_section_and_missing_file(tmp_path):
    with pytest.raises(PipelineError, match="data: missing"):
        parse_config({"name": "a", "model": {"name": "fm"}}, "here")
    with pytest.raises(FileNotFoundError, match="no configuration"):
        load_config(tmp_path / "absent.yaml")


def test_auto_metric_follows_the_task():
    tree = {"name": "a", "data": {"spec": "x"}, "model": {"name": "fm"}}
    assert parse_config(tree, "t").metric("auto") == "auc"
    tree["training"] = {"task": "regression"}
    assert parse_config(tree, "t").metric("auto") == "rmse"
    assert parse_config(tree, "t").metric("gauc") == "gauc"


SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "pipeline/configs").glob("*"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_name_real_models_and_arguments(name):
    config = load_config(name)
    accepted = constructor_arguments(models.entry(config.model.name).cls)
    assert set(config.model.arguments) <= set(accepted)
    build_optimizer(config.optimizer, 1000, 10, config.training.batch_size)
    if config.data.spec != "my-log.yaml":
        assert load_spec(config.data.spec).fields
