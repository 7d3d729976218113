"""Distances between query and gallery embeddings, tile by tile, so that no distance depends on its company."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval_lib import _native
from reid_core.metrics._lengths import Metric, check_widths
from reid_core.metrics._tensors import as_array
from reid_core.metrics._tiles import TILE, Embeddings, tile_distances


def distance_matrix(
    query: NDArray[Any],
    gallery: NDArray[Any],
    metric: Metric = "cosine",
    *,
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Distances of every query to every gallery embedding; small is near.

    ``cosine`` is the negative cosine, in [-1, 1] but for rounding: it ranks as 1 - cosine does, but 1 - x would round
    in float32 and make ties of its own. ``euclidean`` is the root of the sum of squared differences, computed in
    float64. The distance of a pair does not depend on how many others there are, nor on their order: each is added up
    in one order (``csrc/product.hpp``).

    Args:
        query: (Q, D) real. gallery: (G, D) real.
        metric: ``cosine`` or ``euclidean``.
        query_names, gallery_names: image paths, for the messages.
        progress: called with (tiles of the gallery done, all of them).

    Returns:
        (Q, G) float32.

    Raises:
        NumericalError: an embedding has a NaN or an infinite number, or is a row of zeros; row and image are named.
        UsageError: shapes that do not fit, or an unknown metric.
    """
    query, gallery = (np.asarray(as_array(side)) for side in (query, gallery))
    sides = Embeddings("query", query, metric, query_names), Embeddings("gallery", gallery, metric, gallery_names)
    check_widths(*sides)
    distmat = np.empty((len(query), len(gallery)), dtype=np.float32)
    rows, columns = range(0, len(query), TILE.rows), range(0, len(gallery), TILE.columns)
    with ThreadPoolExecutor(_native.usable_processors()) as pool:
        lefts = list(pool.map(lambda row: sides[0].tile(np.arange(row, min(row + TILE.rows, len(query)))), rows))

        def fill(column: int) -> None:
            right = sides[1].tile(np.arange(column, min(column + TILE.columns, len(gallery))))
            block = np.empty(TILE, dtype=np.float32)
            for row, left in zip(rows, lefts):
                tile_distances(left, right, metric, block)
                distmat[row : row + left.size, column : column + right.size] = block[: left.size, : right.size]

        for done, _ in enumerate(pool.map(fill, columns), 1):
            if progress is not None:
                progress(done, len(columns))
    return distmat
