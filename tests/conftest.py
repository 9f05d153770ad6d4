"""Fixtures shared by every room's tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_DEFAULT_SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real public data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CTR_SHARED_DATA", _DEFAULT_SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder}; set CTR_SHARED_DATA to run this test")
    return folder
