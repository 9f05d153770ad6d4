"""The real rooms together: TFT graph and FM / AFM, from a CSV to the served signatures."""

import random

import numpy as np
import pytest
import tensorflow as tf

import serving.export
from models import zoo
from models.features import Features
from preprocessing.job import prepare
from preprocessing.schema import DatasetSpec
from serving.columns import as_vector, parse_columns
from serving.export import export
from serving.session import SavedModelSession
from serving.verify import verify
from serving.warmup import request_inputs

SPEC = """
name: little
source: {{format: csv, files: [{path}]}}
label: {{column: clicked}}
fields:
  - {{name: user, kind: categorical}}
  - {{name: title, column: ad title, kind: categorical}}
  - {{name: genres, kind: multivalued, max_values: 3}}
  - {{name: price, kind: numeric, transform: log1p}}
  - {{name: hour, kind: time, column: ts, part: hour}}
split: {{kind: ratio, train: 0.8, validation: 0.0, test: 0.2}}
"""


def write_log(path):
    draw = random.Random(4)
    lines = ["clicked,user,ad title,genres,price,ts"]
    for i in range(600):
        genres = "|".join(draw.sample("abcd", draw.randint(0, 3)))
        price = draw.choice(["", f"{draw.uniform(0, 99):.2f}"])
        row = [str(int(draw.random() < 0.4)), f"u{draw.randint(0, 40)}", f"t{draw.randint(0, 30)}"]
        lines.append(",".join([*row, genres, price, str(880_000_000 + 997 * i)]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    write_log(folder / "log.csv")
    (folder / "spec.yaml").write_text(SPEC.format(path=folder / "log.csv"))
    spec = DatasetSpec.load(folder / "spec.yaml")
    return prepare(spec, folder / "prepared")


@pytest.fixture(scope="module")
def rows(prepared):
    table = prepared.raw("test")
    columns = [column["name"] for column in prepared.manifest["columns"]]
    return {name: table.column(name).to_pylist() for name in columns}


@pytest.mark.parametrize("name", ["fm", "afm"])
def test_served_answers_equal_keras_on_the_tfrecords(prepared, rows, tmp_path, monkeypatch, name):
    # The same comparisons in this process: test_export.py pays for the fresh one.
    monkeypatch.setattr(serving.export, "verify_in_fresh_process", verify_or_fail)
    model = zoo.build(name, features_of(prepared), embedding_dim=4)
    disturb(model)
    columns = prepared.manifest["columns"]
    path = export(model, prepared.transform(), columns, tmp_path, name, rows=rows)
    assert list((path / "assets").iterdir()), "the vocabulary must travel with the model"

    records = prepared.arrays("test")
    inputs = {key: tf.constant(records[key]) for key in ("ids", "values")}
    expected = np.asarray(tf.sigmoid(model(inputs, training=False))).reshape(-1)
    with SavedModelSession(path) as session:
        vectors = {c.name: as_vector(c, rows[c.name]) for c in parse_columns(columns)}
        got = session.run("explain", vectors)
        np.testing.assert_allclose(got["probability"], expected, atol=1e-6)
        total = got["bias"] + got["first_order"].sum(1)
        total += got["order_2_contributions"].sum((1, 2))
        np.testing.assert_allclose(total, got["logit"], atol=1e-5)
        grid = request_inputs("score_candidates", parse_columns(columns), vectors, 20)
        assert session.run("score_candidates", grid)["probability"].shape == (1, 20)


def verify_or_fail(directory, case):
    report = verify(directory, case)
    assert report["failures"] == []
    return report


def features_of(prepared) -> Features:
    fields = [{key: f[key] for key in ("name", "start", "stop")} for f in prepared.fields]
    return Features.from_fields(prepared.manifest["num_features"], fields)


def disturb(model) -> None:
    """Weights away from their first values, so that no part of the logit is zero."""
    draw = np.random.default_rng(9)
    model.build()
    for weight in model.trainable_weights:
        weight.assign(draw.normal(0, 0.4, weight.shape))
