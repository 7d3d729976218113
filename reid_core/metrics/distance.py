"""Distances between query and gallery embeddings, tile by tile, so that no result depends on the shape of a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import NumericalError, UsageError

Metric = Literal["cosine", "euclidean"]

_TILE = 512
"""Rows and columns of one product. Matrix products of other shapes differ in the last bits, so tails are padded."""


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
    float64. The matrix is computed in fixed tiles whose tails are padded with zeros: the distance of a pair does not
    depend on how many others there are.

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
    if metric not in ("cosine", "euclidean"):
        raise UsageError(f"unknown distance {metric!r}: known are cosine and euclidean")
    lengths = (_checked("query", query, query_names), _checked("gallery", gallery, gallery_names))
    if query.shape[1] != gallery.shape[1]:
        raise UsageError(
            f"query embeddings have {query.shape[1]} numbers, gallery embeddings {gallery.shape[1]}: "
            "both must come from the same network"
        )
    tile = _cosine if metric == "cosine" else _euclidean
    distmat = np.empty((len(query), len(gallery)), dtype=np.float32)
    rows, columns = range(0, len(query), _TILE), range(0, len(gallery), _TILE)
    for r, row in enumerate(rows):
        left = _padded(query, lengths[0], row, metric)
        for c, column in enumerate(columns):
            right = _padded(gallery, lengths[1], column, metric)
            target = distmat[row : row + _TILE, column : column + _TILE]
            target[:] = tile(left, right)[: target.shape[0], : target.shape[1]]
            if progress is not None:
                progress(r * len(columns) + c + 1, len(rows) * len(columns))
    return distmat


def _checked(kind: str, embedding: NDArray[Any], names: Sequence[str] | None) -> NDArray[np.float64]:
    """(N,) lengths of the rows of ``embedding``, none of them zero or not finite."""
    if embedding.ndim != 2 or embedding.shape[1] == 0 or embedding.dtype.kind not in "fiu":
        raise UsageError(f"{kind} embeddings must be (N, D) real numbers, got {embedding.dtype} {embedding.shape}")
    if names is not None and len(names) != len(embedding):
        raise UsageError(f"{len(names)} names were given for {len(embedding)} {kind} embeddings")
    lengths = np.empty(len(embedding))
    for start in range(0, len(embedding), _TILE):
        part = embedding[start : start + _TILE].astype(np.float64)
        # Scaled by the largest entry, so that squares neither overflow nor vanish.
        largest = np.abs(part).max(axis=1)
        scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        lengths[start : start + _TILE] = scale * np.sqrt(np.square(part / scale[:, None]).sum(axis=1))
    for trouble, bad in (("is not finite", ~np.isfinite(lengths)), ("is all zeros", lengths == 0)):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            image = "" if names is None else f" ({names[row]})"
            raise NumericalError(
                f"the embedding of {kind} image {row}{image} {trouble} ({int(bad.sum())} such rows of {len(bad)}): it "
                "has no distance to anything. Look at the image, and at whether the network's weights are finite"
            )
    return lengths


def _padded(embedding: NDArray[Any], lengths: NDArray[np.float64], start: int, metric: Metric) -> NDArray[Any]:
    """_TILE rows from ``start``, zeros beyond the end: unit vectors in float32, or the vectors in float64."""
    part = embedding[start : start + _TILE].astype(np.float64)
    if metric == "cosine":
        part /= lengths[start : start + _TILE, None]
    tile = np.zeros((_TILE, embedding.shape[1]), dtype=np.float32 if metric == "cosine" else np.float64)
    tile[: len(part)] = part
    return tile


def _cosine(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    product: NDArray[Any] = left @ right.T
    return -product


def _euclidean(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    # In float64: the squares cancel, and what is left of float32 would be noise for near images.
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None]
    roots: NDArray[Any] = np.sqrt(np.maximum(squares - 2.0 * (left @ right.T), 0.0))
    return roots
