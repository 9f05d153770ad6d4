"""Checks that hold for every registered model."""

import re

import pytest

import models
from models import Features, Field
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs

NAMES = models.names()

# Sums over pairs: bias + first order + contributions = logit.
ADDITIVE = [
    "affm",
    "afm",
    "aoaffm",
    "aoafm",
    "cin",
    "crossnet",
    "crossnetv2",
    "da-hofm-lin",
    "fa-ifm",
    "ffm",
    "fm",
    "fwfm",
    "graphfm",
    "graphfm-i",
    "graphfm-m",
    "graphfm-s",
    "hoafm",
    "hofm",
    "ia-ifm",
    "ifm",
    "ifm-",
    "ifm-sampling",
    "lr",
]

# Models in which no field has weights of its own: permuting fields changes nothing.
SYMMETRIC = [
    "afm",
    "fa-ifm",
    "fm",
    "graphfm",
    "graphfm-i",
    "graphfm-m",
    "graphfm-s",
    "hofm",
    "lr",
    "nfm",
]


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return model_checks.small_model(request.param, toy_features())


def test_shapes_and_gradients(model):
    model_checks.check_shapes_and_gradients(model)


def test_padding_is_invisible(model):
    model_checks.check_padding_is_invisible(model)


def test_round_trips(model, tmp_path):
    model_checks.check_round_trips(model, tmp_path)


def test_explanation(model):
    model_checks.check_explanation(model)


def test_mixed_precision(model):
    model_checks.check_mixed_precision(model)


@pytest.mark.parametrize("name", NAMES)
def test_two_fields_and_extreme_values(name):
    # Each of their layers doubles the order, and the eighth power of 1e6 is hardly a float32.
    depth = {"num_layers": 2} if name in ("graphfm", "graphfm-s") else {}
    model_checks.check_extreme_values(name, toy_features(fields=2), **depth)


@pytest.mark.parametrize("name", ADDITIVE)
def test_explanation_adds_up(name):
    model_checks.check_completeness(model_checks.small_model(name, toy_features()))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_in_the_fields(name):
    features = toy_features()
    order = [2, 0, 3, 1]
    moved = Features(features.num_features, tuple(features.fields[i] for i in order))
    model_checks.check_field_permutation(
        model_checks.small_model(name, features), model_checks.small_model(name, moved), order
    )


def test_registry_entries_say_what_a_user_needs():
    for name in NAMES:
        entry = models.entry(name)
        assert re.fullmatch(r"[a-z0-9+-]+", name), name
        assert re.search(r"\d{4}", entry.paper), f"{name}: no year in {entry.paper!r}"
        assert entry.order and entry.use


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'amf'; did you mean .*afm"):
        models.build("amf", toy_features())


def test_unknown_argument_lists_those_the_model_takes():
    with pytest.raises(ValueError, match=r"'fm' does not take 'layers'; it takes embedding_dim"):
        models.build("fm", toy_features(), layers=3)


def test_features_validation():
    with pytest.raises(ValueError, match="field names must differ"):
        Features(3, (Field("a"), Field("a")))
    with pytest.raises(ValueError, match="at least one field"):
        Features(3, ())
    with pytest.raises(ValueError, match="num_features must be at least 1, got 0"):
        Features(0, (Field("a"),))
    with pytest.raises(ValueError, match=r"at least one position, got none for \['a'\]"):
        Features(3, (Field("a", 0),))
    read = Features.from_fields(
        9, [{"name": "a", "start": 0, "stop": 1}, {"name": "b", "start": 1, "stop": 4}]
    )
    assert read == Features(9, (Field("a"), Field("b", 3)))
    assert Features.from_config(read.to_config()) == read


def test_toy_inputs_hold_padding():
    assert (toy_inputs(toy_features())["values"] == 0).any()
