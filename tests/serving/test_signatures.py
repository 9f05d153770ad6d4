"""The four signatures of an exported model, run as the server runs them."""

import numpy as np
import pytest
import tensorflow as tf

from serving.calibration import parse_calibration, reference
from serving.columns import parse_columns
from serving.session import SavedModelSession
from serving.signatures import Scorer, argument_names, repeat_to_grid
from serving.warmup import request_inputs, serialize_examples
from tests.serving.conftest import CALIBRATION
from tests.serving.support import COLUMNS, FIELDS, keras_probabilities

PARSED = parse_columns(COLUMNS)


@pytest.fixture(scope="module")
def session(model_directory):
    with SavedModelSession(model_directory) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(served):
    model, transform, rows = served
    p = keras_probabilities(model, transform, rows)
    return reference(np.log(p) - np.log1p(-p), parse_calibration(CALIBRATION))


def test_aliases_dtypes_and_defaults(session):
    for name in ("serving_default", "score_candidates", "explain"):
        definition = session.signature_defs[name]
        assert sorted(definition.inputs) == sorted(column.name for column in PARSED)
        for column in PARSED:
            assert tf.as_dtype(definition.inputs[column.name].dtype).name == column.dtype
            default = tf.make_ndarray(definition.defaults[column.name])
            assert default.size == 1
            np.testing.assert_equal(default.ravel()[0], column.missing)
    assert list(session.signature_defs["serialized_examples"].inputs) == ["examples"]


def test_default_and_examples_agree_with_keras(session, served, expected):
    rows = served[2]
    for signature in ("serving_default", "serialized_examples"):
        got = session.run(signature, request_inputs(signature, PARSED, rows, len(expected)))
        assert sorted(got) == ["logit", "probability"]
        np.testing.assert_allclose(got["probability"], expected, atol=1e-6)


def test_omitted_columns_are_missing_cells(session, served):
    rows = dict(served[2])
    del rows["item"], rows["price"]
    size = len(rows["user"])
    filled = {**rows, "item": np.full(size, b"", object), "price": np.full(size, np.nan, "f")}
    expected = session.run("serving_default", filled)["probability"]
    np.testing.assert_array_equal(session.run("serving_default", rows)["probability"], expected)
    examples = serialize_examples([c for c in PARSED if c.name in rows], rows)
    got = session.run("serialized_examples", {"examples": examples})["probability"]
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_no_rows_have_no_answers(session):
    assert session.run("serving_default", {"age": np.zeros(0, "f")})["probability"].shape == (0,)
    assert session.run("explain", {"age": np.zeros(0, "f")})["first_order"].shape == (0, 5)


def test_every_column_omitted_is_one_row(session):
    assert session.run("serving_default", {})["probability"].shape == (1,)


def test_candidates_as_vectors_matrices_and_scalars(session, served):
    rows = served[2]
    items = {name: rows[name][:7] for name in ("item", "item class", "price")}
    written_out = {**items, "user": rows["user"][[3] * 7], "age": rows["age"][[3] * 7]}
    expected = session.run("serving_default", written_out)["logit"]

    context = {"user": rows["user"][3:4], "age": rows["age"][3:4]}
    vectors = session.run("score_candidates", {**context, **items})["logit"]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)

    scalars = {name: np.array(value[0], value.dtype) for name, value in context.items()}
    got = session.run("score_candidates", {**scalars, **items})["logit"]
    np.testing.assert_allclose(got, expected, atol=1e-6)

    matrices = {name: value[None] for name, value in {**context, **items}.items()}
    got = session.run("score_candidates", matrices)["logit"]
    np.testing.assert_allclose(got, expected[None], atol=1e-6)


def test_two_stacked_candidate_requests_do_not_mix(session, served):
    """What a batching server sends: axis 0 is requests, each with its own context."""
    rows = served[2]
    grid = {
        "user": rows["user"][:2, None],
        "item": rows["item"][:10].reshape(2, 5),
        "price": rows["price"][:10].reshape(2, 5),
    }
    got = session.run("score_candidates", grid)["logit"]
    flat = {
        "user": np.repeat(rows["user"][:2], 5),
        "item": rows["item"][:10],
        "price": rows["price"][:10],
    }
    np.testing.assert_allclose(got.ravel(), session.run("serving_default", flat)["logit"], 1e-5)
    assert got.shape == (2, 5)


def test_omitted_candidate_columns_keep_the_answers_rank(session, served):
    rows = served[2]
    assert session.run("score_candidates", {"item": rows["item"][:4]})["logit"].shape == (4,)
    assert session.run("score_candidates", {"item": rows["item"][None, :4]})["logit"].shape == (
        1,
        4,
    )


def test_unequal_lengths_are_refused_by_the_graph(session, served):
    rows = served[2]
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run("serving_default", {"user": rows["user"][:3], "item": rows["item"][:5]})
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run("score_candidates", {"user": rows["user"][:3], "item": rows["item"][:5]})


def test_explanation_adds_up_to_the_logit(session, served, expected):
    got = session.run("explain", served[2])
    size, fields = len(expected), len(PARSED)
    assert got["first_order"].shape == (size, fields)
    assert got["order_2_contributions"].shape == (size, fields, fields)
    total = got["bias"] + got["first_order"].sum(1) + got["order_2_contributions"].sum((1, 2))
    np.testing.assert_allclose(total, got["logit"], atol=1e-5)
    assert got["fields"].tolist() == [[name.encode() for name in FIELDS]] * size
    np.testing.assert_allclose(got["probability"], expected, atol=1e-6)


def test_argument_names_are_unique_and_usable():
    names = ["self", "class", "user id", "_x", "ok", "column_0", "C1"]
    got = argument_names(parse_columns([{"name": n, "dtype": "string"} for n in names]))
    assert [got[n] for n in ("ok", "column_0", "C1")] == ["ok", "column_0", "C1"]
    assert len(set(got.values())) == len(names)
    assert got["self"] not in ("self", "column_0")


def test_grid_of_one_context_and_no_candidates_is_empty():
    rows, shape = repeat_to_grid({"u": tf.constant([["a"]]), "i": tf.zeros([1, 0])})
    assert shape.numpy().tolist() == [1, 0]
    assert rows["i"].shape == (0,)
    rows, shape = repeat_to_grid({"u": tf.constant("a"), "i": tf.zeros([3])})
    assert shape.numpy().tolist() == [3]
    assert rows["u"].numpy().tolist() == [b"a"], "one request: its context is left to be looked up"
    rows, shape = repeat_to_grid({"u": tf.constant([["a"], ["b"]]), "i": tf.zeros([2, 3])})
    assert shape.numpy().tolist() == [2, 3]
    assert rows["u"].numpy().tolist() == [b"a"] * 3 + [b"b"] * 3


def test_regression_answers_a_clipped_prediction(served):
    model, transform, rows = served
    raw = {name: tf.constant(values) for name, values in rows.items()}
    got = Scorer(model, transform, PARSED, task="regression").score(raw)
    assert set(got) == {"prediction", "logit"}
    np.testing.assert_array_equal(got["prediction"], np.clip(got["logit"], -1, 1))
    with pytest.raises(ValueError, match="no probability to calibrate"):
        Scorer(model, transform, PARSED, [{"kind": "platt"}], task="regression")
    with pytest.raises(ValueError, match="task must be one of"):
        Scorer(model, transform, PARSED, task="ranking")
