"""Embeddings as tiles, and the distances of two tiles: bits that depend on the pair of images alone.

A BLAS adds up an entry of a product in an order that depends on where it lies, so the same two images would have another
distance elsewhere. ``csrc/product.hpp`` keeps one order; where it is not compiled, NumPy computes what no order changes.
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

Ints = NDArray[np.int64]


class TileShape(NamedTuple):
    """Queries and gallery images of one product."""

    rows: int
    columns: int


TILE = TileShape(768, 512)
"""Tiles of queries and of the gallery, at most: their distances (1.6 MB) lie in a core's cache when they are counted."""

_GRID = 2.0**26
"""Unit vectors are rounded to multiples of 1 / this where NumPy multiplies: a product is then a multiple of 2**-52, no sum of
them exceeds 1 but by rounding, and float64 adds them up without rounding, in any order."""


class Packed(NamedTuple):
    """A tile as ``tile_distances`` wants it.

    Attributes:
        rows: (panels, D, width) for the compiled product; else (size, D) float64.
        size: how many rows.
        squares: (size,) float64 squared lengths; for ``euclidean`` and the compiled product alone.
    """

    rows: NDArray[Any]
    size: int
    squares: NDArray[np.float64] | None = None


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

    def tile(self, rows: Ints, into: NDArray[Any] | None = None) -> Packed:
        """The images ``rows``, (T,): of queries a left side, of the gallery a right one.

        Args:
            into: ``Packed.rows`` of a tile of this side that is no longer used; it is overwritten if it is large enough.
        """
        right = self.kind != "query"
        if self.metric == "euclidean":
            exact = self.values[rows].astype(np.float64)
            if _native.product() is None:
                return Packed(exact, len(rows))
            return Packed(_packed(exact, right, into=into), len(rows), _squares(exact))
        # The negative cosine: a query's sign is turned, which costs nothing here and changes no bit.
        lengths = self._lengths[rows] * (1.0 if right else -1.0)
        if _native.product() is None:
            return Packed(np.rint(self.values[rows] / lengths[:, None] * _GRID) / _GRID, len(rows))
        if self.values.dtype != np.float32:
            return Packed(
                _packed((self.values[rows] / lengths[:, None]).astype(np.float32), right, into=into), len(rows)
            )
        factors = (1.0 / lengths).astype(np.float32)
        # The reciprocal of such a length, or the product with it, would leave float32's range.
        odd = np.flatnonzero((np.abs(lengths) < SAFE[0]) | (np.abs(lengths) > SAFE[1]))
        strides = self.values.strides
        if len(odd) == 0 and strides[1] == 4 and strides[0] % 4 == 0 and self.values.flags.aligned:
            return Packed(_packed(self.values, right, rows, factors, into), len(rows))
        unit = self.values[rows]
        unit[odd] = unit[odd] / lengths[odd, None]
        factors[odd] = 1
        return Packed(_packed(unit, right, None, factors, into), len(rows))


def _packed(
    table: NDArray[Any],
    right: bool,
    rows: Ints | None = None,
    factors: NDArray[Any] | None = None,
    into: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """The rows of ``table`` at ``rows`` (all), each times its factor (1), in panels for the compiled product."""
    product: Any = _native.product()
    rows = np.arange(len(table)) if rows is None else rows
    factors = np.ones(len(rows), table.dtype) if factors is None else factors
    width = product.panel_widths(table.itemsize)[right]
    count = -(-len(rows) // width)
    panels = (
        np.empty((count, table.shape[1], width), table.dtype) if into is None or len(into) < count else into[:count]
    )
    pack = product.pack_float32 if table.dtype == np.float32 else product.pack_float64
    pack(table, rows, factors, panels)
    return panels


def _squares(exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) products of (T, D) rows with themselves, to the bits of ``_multiply``: equal images have the distance 0."""
    squares = np.empty(len(exact))
    step = 12
    for start in range(0, len(exact), step):
        part = exact[start : start + step]
        out = np.empty((len(part), len(part)))
        _multiply(_packed(part, False), len(part), _packed(part, True), len(part), out)
        squares[start : start + step] = out.diagonal()
    return squares


def _multiply(left: NDArray[Any], rows: int, right: NDArray[Any], columns: int, out: NDArray[Any]) -> None:
    product: Any = _native.product()
    multiply = product.multiply_float32 if left.dtype == np.float32 else product.multiply_float64
    multiply(left, rows, right, columns, _native.instruction_set(product), out)


def tile_distances(left: Packed, right: Packed, metric: Metric, out: NDArray[np.float32]) -> None:
    """Fill ``out[:left.size, :right.size]`` with distances: negative cosine, or Euclidean.

    Args:
        left: a tile of queries. right: a tile of the gallery.
        out: (R, C) float32, C-contiguous.
    """
    here = out[: left.size, : right.size]
    if metric == "cosine":
        if _native.product() is None:
            here[...] = left.rows @ right.rows.T
        else:
            _multiply(left.rows, left.size, right.rows, right.size, out)
    elif left.squares is None or right.squares is None:
        for row, image in zip(here, left.rows):
            row[...] = np.sqrt(np.square(right.rows - image).sum(axis=1))
    else:
        # In float64: the squares cancel, and what is left of float32 would be noise for near images.
        products = np.empty((left.size, right.size))
        _multiply(left.rows, left.size, right.rows, right.size, products)
        # Too far apart: infinite or NaN, and noticed where it is counted.
        with np.errstate(over="ignore", invalid="ignore"):
            products *= -2.0
            products += left.squares[:, None] + right.squares[None]
            np.maximum(products, 0.0, out=products)
            here[...] = np.sqrt(products, out=products)
