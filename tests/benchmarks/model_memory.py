"""Peak memory of a forward pass of DA-HoFM and GraphFM, for several numbers of fields and sizes.

    python -m tests.benchmarks.model_memory > tests/benchmarks/results/model_memory.md

Each point runs in a process of its own: what the forward pass of one batch adds to the peak
resident memory (ru_maxrss), after a batch of one row has warmed everything up. The last column
counts it in tensors of shape (B, F, F): a form that built the pair-wise products themselves would
hold more than D of them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys

BATCH = 256
POINTS = [(50, 16), (100, 16), (200, 16), (200, 32), (200, 64)]
MODELS = ["da-hofm", "graphfm"]
MEBIBYTE = 2**20


def measure(name: str, num_fields: int, dim: int) -> float:
    """Bytes the forward pass of one batch adds to the peak of this process."""
    import numpy as np

    import models
    from models import Features, Field

    features = Features(1000, tuple(Field(f"f{index}") for index in range(num_fields)))
    model = models.build(name, features, embedding_dim=dim)

    def forward(rows: int) -> None:
        ids = np.random.default_rng(0).integers(0, 1000, (rows, num_fields)).astype("int32")
        logits = model({"ids": ids, "values": np.ones(ids.shape, "float32")}, training=False)
        if not np.isfinite(np.asarray(logits)).all():
            raise ArithmeticError(f"{name}: logits are not finite at F={num_fields}, D={dim}")

    forward(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forward(BATCH)
    return 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def measure_apart(name: str, num_fields: int, dim: int) -> float:
    """`measure` in a fresh process: a peak never falls again."""
    command = [sys.executable, "-m", __spec__.name, "--point", name, str(num_fields), str(dim)]
    # Buffers go back to the system when freed, so that the peak is what is held at one time.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table() -> str:
    """All points as a Markdown table."""
    lines = [
        f"Forward pass, batch {BATCH}, float32, CPU; "
        "written by `python -m tests.benchmarks.model_memory`.",
        "",
        "| model | fields F | size D | peak, MiB | a (B, F, F) tensor, MiB | peak, such tensors |",
        "|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        for num_fields, dim in POINTS:
            peak = measure_apart(name, num_fields, dim) / MEBIBYTE
            unit = 4 * BATCH * num_fields**2 / MEBIBYTE
            lines.append(
                f"| {name} | {num_fields} | {dim} | {peak:.0f} | {unit:.1f} | {peak / unit:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", nargs=3, metavar=("MODEL", "F", "D"), help="measure one point")
    point = parser.parse_args().point
    if point:
        print(json.dumps(measure(point[0], int(point[1]), int(point[2]))))
    else:
        print(table())


if __name__ == "__main__":
    main()
