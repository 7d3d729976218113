"""Embeddings as tiles of one shape, and the distances of two tiles: bits that depend neither on memory nor on threads.

Matrix products of different shapes differ in the last bits. So all products of one call have the same shape, which follows
from the number of queries and gallery images alone; rows beyond the end are zeros, and one thread makes each. How much memory
or how many threads there are decides only how many tiles are under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from reid_core.metrics._lengths import SAFE, Metric, check_metric, checked_lengths

_STEP = 32
"""Sides of tiles are multiples of this, and so of the blocks that BLAS computes at once: with an odd rest, the bits of a pair
would depend on where in the tile it lies."""

_MOST = (1728, 640)
"""Rows and columns of the largest tile. Smaller ones cost more a pair, as BLAS packs both sides anew for each; distances of
larger ones (4.4 MB) would no longer lie in a core's share of the cache when they are counted."""

_PACKING = 20
"""What BLAS does once for a tile takes as long as this many more rows (fitted to sides of 320 to 1,152)."""


class TileShape(NamedTuple):
    """Queries and gallery images of one product."""

    rows: int
    columns: int


def tile_shape(num_query: int, num_gallery: int) -> TileShape:
    """The shape of all tiles of a problem: that which is multiplied soonest, with its rows and columns of zeros."""
    return TileShape(_side(num_query, _MOST[0]), _side(num_gallery, _MOST[1]))


def _side(size: int, most: int) -> int:
    least = max(1, -(-size // most))
    sides = {count: -(-size // count // _STEP) * _STEP for count in range(least, 2 * least + 1)}
    count = min(sides, key=lambda count: count * (sides[count] + _PACKING))
    return sides[count]


class Embeddings:
    """The rows of one side, checked, handed out as tiles.

    Args:
        kind: ``query`` or ``gallery``, for the messages.
        values: (N, D) real, a memory map too; never copied whole.
        metric: ``cosine`` or ``euclidean``.
        names: image paths, for the messages.

    Raises:
        NumericalError: a row has a NaN or an infinite number, or is all zeros; row and image are named.
        UsageError: not (N, D) real numbers, another number of names, or an unknown metric.
    """

    def __init__(self, kind: str, values: NDArray[Any], metric: Metric, names: Sequence[str] | None = None) -> None:
        check_metric(metric)
        self.values, self.metric = values, metric
        self._lengths = checked_lengths(kind, values, names)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[1])

    def tile(self, rows: slice | NDArray[np.int64], size: int, sign: float = 1.0) -> NDArray[Any]:
        """(size, D): the rows, at most ``size``, then zeros; unit vectors in float32 times ``sign``, or plain float64."""
        rows = _as_slice(rows)
        if self.metric == "euclidean":
            part = self.values[rows]
            plain = np.zeros((size, self.width), dtype=np.float64)
            plain[: len(part)] = part
            return plain
        lengths = self._lengths[rows]
        unit = np.empty((size, self.width), dtype=np.float32)
        ours = unit[: len(lengths)]
        unit[len(lengths) :] = 0
        if self.values.dtype == np.float32:
            part = self.values[rows] if isinstance(rows, slice) else np.take(self.values, rows, 0, ours, "clip")
            np.multiply(part, (sign / lengths).astype(np.float32)[:, None], out=ours)
            # The reciprocal of such a length, or the product with it, would leave float32's range.
            odd = np.flatnonzero((lengths < SAFE[0]) | (lengths > SAFE[1]))
        else:
            odd = np.arange(len(lengths))
        if len(odd):
            exact = self.values[rows][odd].astype(np.float64)
            ours[odd] = sign * (exact / lengths[odd, None])
        return unit


def _as_slice(rows: slice | NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Neighbours as a slice, which is read without a copy."""
    if not isinstance(rows, slice) and len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def left_tile(query: Embeddings, rows: slice | NDArray[np.int64], size: int) -> NDArray[Any]:
    """A query tile as ``tile_distances`` wants it: for cosine negated, which costs nothing here and changes no bit."""
    return query.tile(rows, size, sign=-1.0)


def tile_distances(left: NDArray[Any], right: NDArray[Any], metric: Metric, out: NDArray[np.float32]) -> None:
    """(R, C) float32 distances of a ``left_tile`` and a gallery tile: negative cosine, or Euclidean."""
    if metric == "cosine":
        np.matmul(left, right.T, out=out)
        return
    # In float64: the squares cancel, and what is left of float32 would be noise for near images.
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # too far apart: infinite or NaN, and noticed where it is counted
        squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None]
        squares -= 2.0 * (left @ right.T)
        np.maximum(squares, 0.0, out=squares)
        out[:] = np.sqrt(squares, out=squares)


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """BLAS makes every product with one thread: with several, bits would depend on how many there are."""
    with threadpool_limits(1, user_api="blas"):
        yield
