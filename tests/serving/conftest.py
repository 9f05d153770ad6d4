"""One exported model for all serving tests (an export takes seconds)."""

import pytest

from serving.export import export
from tests.serving.support import COLUMNS, FIELDS, make_model, make_rows

CALIBRATION = [
    {"kind": "downsampling", "rate": 0.25},
    {"kind": "platt", "slope": 1.1, "intercept": -0.05},
]


@pytest.fixture(scope="session")
def served():
    """(model, transform, rows): the Keras side of `repository`."""
    return (*make_model(), make_rows())


@pytest.fixture(scope="session")
def repository(served, tmp_path_factory):
    """A model repository with version 1 of the model `ctr`. Read only: copy it to change it."""
    model, transform, rows = served
    base = tmp_path_factory.mktemp("repository")
    card = {"metrics": {"test": {"auc": 0.75, "logloss": 0.5}}, "intended_use": "tests | only"}
    export(
        model,
        transform,
        COLUMNS,
        base,
        "ctr",
        rows=rows,
        calibration=CALIBRATION,
        card=card,
        fields=FIELDS,
    )
    return base


@pytest.fixture(scope="session")
def model_directory(repository):
    return repository / "ctr" / "1"
