"""Field vectors side by side: the input of every network over embeddings."""

from typing import Any

from keras import ops


def flatten_fields(vectors: Any) -> Any:
    """Lays field vectors (B, F, D) side by side: (B, F D)."""
    return ops.reshape(vectors, (-1, vectors.shape[1] * vectors.shape[2]))
