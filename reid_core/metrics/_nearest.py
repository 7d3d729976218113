"""The k nearest of every image, from tiles of products: no matrix of all pairs, and no sort of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.metrics._products import multiplying_threads
from reid_core.metrics._unit_rows import TILE, UnitRows, buffer

_PANEL = 4 * TILE
"""Rows that a tile of columns is multiplied with at a time; it is made to unit vectors once for all of them."""

_NONE = np.iinfo(np.int64).max
"""The key of nothing: it comes last."""

Sink = Callable[[int, int, NDArray[np.float32]], None]


class Nearest:
    """The ``k`` largest similarities of each of ``rows`` images and whose they are, largest first.

    Of equal similarities the lower index comes first. ``add`` must bring the others in ascending order: then an equal
    one that comes later never replaces one that is there, and most tiles are passed over after one comparison.

    Attributes:
        k: how many.
    """

    def __init__(self, rows: int, k: int) -> None:
        self.k = k
        # Similarity, falling, in the upper half and index in the lower one: sorting these sorts both.
        self._keys = np.full((rows, k), _NONE)

    @property
    def index(self) -> NDArray[np.int32]:
        """(rows, k) int32: whose they are."""
        return self._keys.astype(np.int32)

    @property
    def similarity(self) -> NDArray[np.float32]:
        """(rows, k) float32."""
        return _similarity(self._keys)

    def add(self, first: int, scores: NDArray[np.float32], column: int) -> None:
        """Similarities (R, C) of rows ``first``... to images ``column``..."""
        self._merge(first, *_above(scores, self._floor(first, scores), 0), column)

    def add_transposed(self, first: int, scores: NDArray[np.float32], column: int) -> None:
        """Similarities (C, R): the same, transposed."""
        self._merge(first, *_above(scores, self._floor(first, scores.T), 1), column)

    def _floor(self, first: int, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(R,) what a similarity must exceed to be among the k largest of its row."""
        last = self._keys[first : first + len(scores), -1]
        floor = _similarity(last)
        fresh = np.flatnonzero(last == _NONE)
        floor[fresh] = -np.inf
        # A quarter will do: what is not above its k-th largest is not above that of the whole.
        some = scores[fresh, :: max(1, min(4, scores.shape[1] // self.k))] if len(fresh) else scores
        if len(fresh) and some.shape[1] >= self.k:
            floor[fresh] = np.nextafter(np.partition(some, -self.k, axis=1)[:, -self.k], np.float32(-np.inf))
        return floor

    def _merge(
        self, first: int, row: NDArray[Any], other: NDArray[Any], score: NDArray[np.float32], column: int
    ) -> None:
        """``score`` of ``row`` (ascending) and ``other``, both counted from their firsts."""
        if len(row) == 0:
            return
        hit, start, count = np.unique(row, return_index=True, return_counts=True)
        line = np.repeat(np.arange(len(hit)), count)
        slot = self.k + np.arange(len(row)) - np.repeat(start, count)
        hit += first
        keys = np.full((len(hit), self.k + int(count.max())), _NONE)
        keys[:, : self.k] = self._keys[hit]
        keys[line, slot] = _key(score, other + column)
        keys.sort(axis=1)
        self._keys[hit] = keys[:, : self.k]


def _key(similarity: NDArray[np.float32], index: NDArray[Any]) -> NDArray[np.int64]:
    """An integer that rises as similarity falls, and with the index where similarities are equal."""
    bits = (np.float32(0) - similarity).view(np.int32)  # less than nothing or more, but never -0
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats have rising bits towards minus infinity
    keys: NDArray[np.int64] = (rising.astype(np.int64) << 32) | index
    return keys


def _similarity(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    rising = (keys >> 32).astype(np.int32)
    return -(rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(np.float32)


def _above(
    scores: NDArray[np.float32], floor: NDArray[np.float32], axis: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
    """Where ``scores`` exceed the floor of their line: line (ascending), place in it, and the score."""
    flat = np.flatnonzero(scores > (floor[:, None] if axis == 0 else floor))
    row, column = np.divmod(flat, scores.shape[1])
    score = scores[row, column]
    if axis == 0:
        return row, column, score
    order = np.argsort(column.astype(np.uint16), kind="stable")  # of 16 bits it is a radix sort
    return column[order], row[order], score[order]


def nearest_of_all(
    images: UnitRows, k: int, sink: Sink | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[Nearest, NDArray[np.float32]]:
    """The ``k`` nearest of each image among all, itself included, and its smallest similarity to any, (N,).

    A pair is multiplied once and serves both its images.

    Args:
        k: at most ``len(images)``.
        sink: called with (row, column, similarities) for pieces of rows and columns from there on that together cover
            all pairs with row < column; the array is only lent.
        progress: called with (tiles done, tiles).
    """
    size = len(images)
    nearest, smallest = Nearest(size, k), np.full(size, np.inf, dtype=np.float32)
    product = buffer(TILE, _PANEL)
    tiles = -(-size // TILE)
    done = 0
    with multiplying_threads() as multiply:
        left = right = None
        for top in range(0, size, _PANEL):
            left = images.packed(top, _PANEL, False, left)
            for column in range(top, size, TILE):
                right = images.packed(column, TILE, True, right)
                bottom = min(top + _PANEL, column + TILE, size)
                scores = product[: bottom - top, : right.size]
                multiply(left.head(bottom - top), right, product)
                done += -(-(bottom - top) // TILE)
                rows, columns = slice(top, bottom), slice(column, column + right.size)
                np.minimum(smallest[rows], scores.min(axis=1), out=smallest[rows])
                np.minimum(smallest[columns], scores.min(axis=0), out=smallest[columns])
                # Rows above the diagonal first: their indices are lower than those of the columns.
                above = min(column, bottom) - top
                if above:
                    nearest.add_transposed(column, scores[:above], top)
                nearest.add(top, scores, column)
                if sink is not None:
                    sink(top, column, scores)
                if progress is not None:
                    progress(done, tiles * (tiles + 1) // 2)
    return nearest, smallest


def nearest_among(
    images: UnitRows, others: UnitRows, k: int, progress: Callable[[int, int], None] | None = None
) -> Nearest:
    """The ``k`` nearest of each image among ``others``; ``k`` at most ``len(others)``."""
    nearest = Nearest(len(images), k)
    product = buffer(TILE, _PANEL)
    with multiplying_threads() as multiply:
        left = right = None
        for top in range(0, len(images), _PANEL):
            left = images.packed(top, _PANEL, False, left)
            for column in range(0, len(others), TILE):
                right = others.packed(column, TILE, True, right)
                multiply(left, right, product)
                nearest.add(top, product[: left.size, : right.size], column)
            if progress is not None:
                progress(top + left.size, len(images))
    return nearest
