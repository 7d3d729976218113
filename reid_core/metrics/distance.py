"""Distances between embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def distance_matrix(
    query: NDArray[np.floating],
    gallery: NDArray[np.floating],
    *,
    metric: str = "cosine",
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    q = query / np.linalg.norm(query, axis=1, keepdims=True)
    g = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    return (1 - q @ g.T).astype(np.float32)
