"""The README's worked example runs as it stands, and its list of readings is whole."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import models
from models import zoo
from tests.support import model_checks
from tests.support.layer_checks import toy_features, toy_inputs

FOLDER = Path(models.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def gated_fm(tmp_path_factory):
    """The example's module, registered for these tests alone."""
    found = re.search(r"<!-- example -->\n```python\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    path = tmp_path_factory.mktemp("example") / "gated_fm.py"
    path.write_text(found[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("gated_fm", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gated_fm"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gated_fm"]
    del zoo._ENTRIES["gated-fm"]


def test_the_example_passes_what_every_model_passes(gated_fm, tmp_path):
    assert models.entry("gated-fm").cls is gated_fm.GatedFM
    model = model_checks.small_model("gated-fm", toy_features())
    model_checks.check_shapes_and_gradients(model)
    model_checks.check_padding_is_invisible(model)
    model_checks.check_round_trips(model, tmp_path)
    model_checks.check_explanation(model)
    model_checks.check_completeness(model)
    model_checks.check_mixed_precision(model)


def test_the_example_with_open_gates_is_fm(gated_fm):
    gated = model_checks.small_model("gated-fm", toy_features())
    fm = model_checks.small_model("fm", toy_features())
    gated.gates.gates.assign(np.ones(gated.gates.gates.shape))
    gated.embedding.table.assign(fm.embedding.table)
    gated.first_order.set_weights(fm.first_order.get_weights())
    inputs = toy_inputs(fm.features)
    np.testing.assert_allclose(gated(inputs), fm(inputs), atol=1e-6)


def test_the_example_fits_the_page():
    """A screen or two: adding a model is one short file."""
    found = re.search(r"<!-- example -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert len(found[1].splitlines()) < 80


def test_every_reading_a_docstring_names_is_listed():
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", README, re.MULTILINE)}
    assert listed == set(range(1, 45))
    named = set()
    for path in FOLDER.rglob("*.py"):
        # "reading 18", "readings 2, 3 and 5", perhaps with a line break between.
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
        for numbers in re.findall(r"readings? ((?:\d+(?:, | and |-)?)+)", text):
            named |= {int(number) for number in re.findall(r"\d+", numbers)}
    assert named >= {1, 2, 3, 36, 42}
    assert named <= listed
