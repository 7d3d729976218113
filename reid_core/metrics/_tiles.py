"""Embeddings as tiles, and the distances of two tiles: bits that depend on the pair of images alone.

So neither the size of a tile nor memory, threads, processes or the order of images can change a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval_lib import _native
from reid_core.errors import UsageError
from reid_core.metrics._lengths import SAFE, Metric, check_metric, check_names, checked_lengths
from reid_core.metrics._products import Ints, Packed, can_pack, multiply, pack


class TileShape(NamedTuple):
    """Queries and gallery images of one product."""

    rows: int
    columns: int


TILE = TileShape(768, 512)
"""Tiles of queries and of the gallery, at most: their distances (1.6 MB) lie in a core's cache when they are counted."""


class Tile(NamedTuple):
    """A tile as ``tile_distances`` wants it.

    Attributes:
        packed: the rows.
        squares: (size,) float64 squared lengths; for ``euclidean`` alone, and where the compiled product is there.
    """

    packed: Packed
    squares: NDArray[np.float64] | None = None

    @property
    def size(self) -> int:
        """How many rows."""
        return self.packed.size


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
        if values.ndim != 2 or values.shape[1] == 0 or values.dtype.kind not in "fiu":
            raise UsageError(f"{kind} embeddings must be (N, D) real numbers, got {values.dtype} {values.shape}")
        check_names(kind, names, len(values))
        self.values, self.metric, self.kind = values, metric, kind
        self._lengths = checked_lengths(kind, values, names)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[1])

    def tile(self, rows: Ints, into: NDArray[Any] | None = None) -> Tile:
        """The images ``rows``, (T,): of queries a left side, of the gallery a right one.

        Args:
            into: ``packed.rows`` of a tile of this side that is no longer used; it is overwritten if it is large enough.
        """
        right = self.kind != "query"
        if self.metric == "euclidean":
            exact = self.values[rows].astype(np.float64)
            return Tile(pack(exact, right, into=into), None if _native.product() is None else _squares(exact))
        # The negative cosine: a query's sign is turned, which costs nothing here and changes no bit.
        lengths = self._lengths[rows] * (1.0 if right else -1.0)
        if self.values.dtype != np.float32:
            return Tile(pack((self.values[rows] / lengths[:, None]).astype(np.float32), right, into=into))
        with np.errstate(over="ignore"):
            factors = (1.0 / lengths).astype(np.float32)
        # The reciprocal of such a length, or the product with it, would leave float32's range.
        odd = np.flatnonzero((np.abs(lengths) < SAFE[0]) | (np.abs(lengths) > SAFE[1]))
        if len(odd) == 0 and can_pack(self.values):
            return Tile(pack(self.values, right, rows, factors, into))
        unit = np.ascontiguousarray(self.values[rows])
        unit[odd] = unit[odd] / lengths[odd, None]
        factors[odd] = 1
        return Tile(pack(unit, right, None, factors, into))


def _squares(exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) products of (T, D) rows with themselves, to the bits of ``multiply``: equal images have the distance 0."""
    squares = np.empty(len(exact))
    step = 12
    for start in range(0, len(exact), step):
        part = exact[start : start + step]
        out = np.empty((len(part), len(part)))
        multiply(pack(part, False), pack(part, True), out)
        squares[start : start + step] = out.diagonal()
    return squares


def tile_distances(left: Tile, right: Tile, metric: Metric, out: NDArray[np.float32]) -> None:
    """Fill ``out[:left.size, :right.size]`` with distances: negative cosine, or Euclidean.

    Args:
        left: a tile of queries. right: a tile of the gallery.
        out: (R, C) float32, C-contiguous.
    """
    if metric == "cosine":
        multiply(left.packed, right.packed, out)
        return
    here = out[: left.size, : right.size]
    if left.squares is None or right.squares is None:
        for row, image in zip(here, left.packed.rows):
            row[...] = np.sqrt(np.square(right.packed.rows - image).sum(axis=1))
        return
    # In float64: the squares cancel, and what is left of float32 would be noise for near images.
    products = np.empty((left.size, right.size))
    multiply(left.packed, right.packed, products)
    step = 64  # a few rows at a time: no second array of the product's size
    with np.errstate(over="ignore", invalid="ignore"):  # too far apart: not finite, and noticed where it is counted
        for start in range(0, left.size, step):
            some = products[start : start + step]
            some *= -2.0
            some += left.squares[start : start + step, None] + right.squares[None]
            np.maximum(some, 0.0, out=some)
            here[start : start + step] = np.sqrt(some, out=some)
