"""Runs a tiny table in a process of its own, on the backend that KERAS_BACKEND names.

python -m tests.pipeline.reproduce_worker FOLDER
"""

import sys
from pathlib import Path

from tests.pipeline.test_reproduce import FM, run, write_table


def main(folder: str) -> None:
    experiment = write_table(Path(folder) / "tiny", {"fm": {**FM, "pairs": True}})
    run(experiment, Path(folder), ["fm"])


if __name__ == "__main__":
    main(*sys.argv[1:])
