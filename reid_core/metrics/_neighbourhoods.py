"""k-reciprocal neighbourhoods of all images as sparse matrices, and the similarities that stand in them.

Set algebra is matrix algebra here: with R the k-reciprocal neighbours and H those of half the size, (R H')(i, j) counts
the members that R(i) and H(j) share, and R + E H, E being the expansions that were accepted, is the union.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid_core.metrics._nearest import Nearest
from reid_core.metrics._unit_rows import UnitRows

_CELLS = 1 << 20
"""Numbers in a temporary array, so that it stays in the cache."""

_WORK = 1 << 22
"""Pairs of entries that a sparse product meets before somebody can stop it."""


def neighbourhoods(index: NDArray[np.int32], k1: int) -> sparse.csr_array:
    """(N, N) whose entries stand at the expanded k-reciprocal neighbours of each image, in order."""
    half = round(k1 / 2)
    own = _reciprocal(index, k1 + 1)
    halves = _reciprocal(index, half + 1)
    turned = halves.T.tocsr()
    size = halves.sum(axis=1)
    pieces = []
    for rows in row_blocks(own, turned):
        some = own[rows]
        # int32 counts; `some` has ones at its entries, so that the product keeps the counts where they are asked for.
        common = some.multiply(some @ turned).tocsr()
        common.data = (3 * common.data > 2 * size[common.indices]).astype(np.int32)
        common.eliminate_zeros()
        union = (some + common @ halves).tocsr()
        union.sort_indices()
        pieces.append(union.astype(np.float64))
    return sparse.vstack(pieces, format="csr")


def product(left: sparse.csr_array, right: sparse.csr_array) -> sparse.csr_array:
    """``left @ right``, which Ctrl-C can stop: SciPy looks at nothing before a product is done."""
    return sparse.vstack([left[rows] @ right for rows in row_blocks(left, right)], format="csr")


def row_blocks(left: sparse.csr_array, right: sparse.csr_array) -> Iterator[slice]:
    """Rows of ``left`` whose product with ``right`` is some tens of milliseconds of work; all of them in the end."""
    entries = np.concatenate([[0], np.cumsum(np.diff(right.indptr)[left.indices], dtype=np.int64)])
    work, start = entries[left.indptr], 0
    while start < left.shape[0]:
        stop = max(start + 1, int(np.searchsorted(work, work[start] + _WORK, side="right")) - 1)
        yield slice(start, stop)
        start = stop


def _reciprocal(index: NDArray[np.int32], k: int) -> sparse.csr_array:
    """(N, N) int32 with ones at j in the first ``k`` of image i that have i in their first ``k``."""
    index = np.ascontiguousarray(index[:, :k])
    number = len(index)
    mutual = np.empty(index.shape, dtype=bool)
    step = max(1, _CELLS // (k * k))
    for start in range(0, number, step):
        some = index[start : start + step]
        itself = np.arange(start, start + len(some), dtype=np.int32)[:, None, None]
        mutual[start : start + step] = (index[some] == itself).any(axis=2)
    starts = np.concatenate([[0], np.cumsum(mutual.sum(axis=1))])
    return sparse.csr_array((np.ones(int(starts[-1]), dtype=np.int32), index[mutual], starts), shape=(number, number))


def similarities(images: UnitRows, nearest: Nearest, row: NDArray[Any], column: NDArray[Any]) -> NDArray[np.float64]:
    """Of image ``row[n]`` to image ``column[n]``: from the list of either, else by a product."""
    index = nearest.index
    number = len(index)
    order = np.argsort(index, axis=1)
    keys = (np.take_along_axis(index, order, axis=1) + np.arange(number)[:, None] * number).ravel()
    known = np.take_along_axis(nearest.similarity, order, axis=1).ravel()
    found = np.full(len(row), np.nan)
    left = np.arange(len(row))
    for first, second in ((row, column), (column, row)):
        wanted = first[left].astype(np.int64) * number + second[left]
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[place] == wanted
        found[left[hit]] = known[place[hit]]
        left = left[~hit]
    step = max(1, _CELLS // images.width)
    for start in range(0, len(left), step):
        some = left[start : start + step]
        found[some] = np.einsum("ij,ij->i", images.pick(row[some]), images.pick(column[some]))
    return found
