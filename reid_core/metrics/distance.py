"""Distances between query and gallery embeddings, tile by tile, so that no result depends on the order of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.metrics._lengths import Metric, check_widths
from reid_core.metrics._tiles import (
    Embeddings,
    left_tile,
    one_thread_a_product,
    tile_distances,
    tile_shape,
)


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
    float64. The matrix is computed in tiles of one shape whose tails are padded with zeros: the distance of a pair does not
    depend on the order of the images. With another number of images the tiles may have another shape, and distances may
    differ by a rounding.

    Args:
        query: (Q, D) real. gallery: (G, D) real.
        metric: ``cosine`` or ``euclidean``.
        query_names, gallery_names: image paths, for the messages.
        progress: called with (tiles done, tiles).

    Returns:
        (Q, G) float32.

    Raises:
        NumericalError: an embedding has a NaN or an infinite number, or is a row of zeros; row and image are named.
        UsageError: shapes that do not fit, or an unknown metric.
    """
    query, gallery = np.asarray(query), np.asarray(gallery)
    sides = Embeddings("query", query, metric, query_names), Embeddings("gallery", gallery, metric, gallery_names)
    check_widths(*sides)
    distmat = np.empty((len(query), len(gallery)), dtype=np.float32)
    shape = tile_shape(len(query), len(gallery))
    block = np.empty(shape, dtype=np.float32)
    rows, columns = range(0, len(query), shape.rows), range(0, len(gallery), shape.columns)
    with one_thread_a_product():
        for r, row in enumerate(rows):
            left = left_tile(sides[0], slice(row, row + shape.rows), shape.rows)
            for c, column in enumerate(columns):
                right = sides[1].tile(slice(column, column + shape.columns), shape.columns)
                tile_distances(left, right, metric, block)
                target = distmat[row : row + shape.rows, column : column + shape.columns]
                target[:] = block[: target.shape[0], : target.shape[1]]
                if progress is not None:
                    progress(r * len(columns) + c + 1, len(rows) * len(columns))
    return distmat
