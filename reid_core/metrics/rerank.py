"""k-reciprocal re-ranking on short neighbour lists: the matrix of all pairs never exists.

The definition, and whose it is, stands in ``reid_core.metrics.rerank_reference``.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from reid_core.errors import UsageError
from reid_core.metrics._nearest import Sink, nearest_of_all
from reid_core.metrics._neighbourhoods import neighbourhoods, product, similarities
from reid_core.metrics._products import multiplying_threads
from reid_core.metrics._unit_rows import TILE, Rows, UnitRows, buffer

_CELLS = 1 << 20
"""Numbers in a temporary array, so that it stays in the cache."""

Progress = Callable[[int, int], None]


def k_reciprocal_rerank(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    *,
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Re-ranked distances: whose neighbours are the same people, as far as that is known without labels.

    All images, queries and gallery, are neighbours of each other; junk and distractors too, as nobody would know them
    apart. Beside the result, some 2 kB an image are needed for k1 = 20, more with more: at worst with the square of k1. Equal to ``rerank_reference.rerank_dense``
    to 1e-5; neighbours that are equally near, but for the rounding of float32, may change places.

    Args:
        query: (Q, D) real. gallery: (G, D) real; both are taken as unit vectors.
        k1: size of the neighbourhoods, at least 1 and less than Q + G.
        k2: how many nearest images the weights are averaged over; 1 averages nothing.
        lambda_value: share of the original distance in the result, in [0, 1].
        query_names, gallery_names: image paths, for the messages.
        progress: called with (steps done, steps).

    Returns:
        (Q, G) float32 in [0, 1] but for rounding, small is near. ``k_reciprocal_blocks`` gives it in pieces.

    Raises:
        NumericalError: an embedding has a NaN or an infinite number, or is a row of zeros; row and image are named.
        UsageError: shapes that do not fit, or numbers out of range; before anything is computed.

    Reference: as ``reid_core.metrics.rerank_reference``.
    """
    images = UnitRows(Rows("query", query, query_names), Rows("gallery", gallery, gallery_names))
    num_query = int(images.starts[1])
    plan = _Plan(images, num_query, *_checked(images, k1, k2, lambda_value), progress)
    result = np.empty((num_query, len(images) - num_query), dtype=np.float32)

    def keep(row: int, column: int, scores: NDArray[np.float32]) -> None:
        """Similarities of queries to gallery images wait where their distances will stand."""
        start = max(column, num_query)
        part = scores[: max(num_query - row, 0), start - column :]
        if part.size:
            result[row : row + len(part), start - num_query :][:, : part.shape[1]] = part

    encoded = _encode(plan, keep)
    for start in range(0, num_query, TILE):
        _finish(plan, encoded, start, result[start : start + TILE])
    return result


def k_reciprocal_blocks(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    *,
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The same distances, some rows of queries at a time, for results that do not fit in memory.

    Arguments and errors are those of ``k_reciprocal_rerank``. Products of queries with the gallery are computed twice.

    Yields:
        (R, G) float32, together all queries in order.
    """
    images = UnitRows(Rows("query", query, query_names), Rows("gallery", gallery, gallery_names))
    num_query = int(images.starts[1])
    plan = _Plan(images, num_query, *_checked(images, k1, k2, lambda_value), progress)
    return _blocks(plan)


@dataclass(frozen=True)
class _Plan:
    images: UnitRows
    num_query: int
    k1: int
    k2: int
    lambda_value: float
    progress: Progress | None

    def tick(self, done: int) -> None:
        """Steps are tiles of products, then blocks of queries."""
        if self.progress is not None:
            self.progress(done, self.tiles + -(-self.num_query // TILE))

    @property
    def tiles(self) -> int:
        count = -(-len(self.images) // TILE)
        return count * (count + 1) // 2


@dataclass(frozen=True)
class _Encoded:
    """What is kept of all images.

    Attributes:
        farthest: (N,) largest distance of each image.
        weights: (Q, N) sparse, V of the queries. weighed_by: (N, G) sparse, V of the gallery, transposed.
        work: (Q + 1,) pairs of weights that meet, summed over the queries before each.
    """

    farthest: NDArray[np.float64]
    weights: sparse.csr_array
    weighed_by: sparse.csr_array
    work: NDArray[np.int64]


def _checked(images: UnitRows, k1: int, k2: int, lambda_value: float) -> tuple[int, int, float]:
    for name, value in (("k1", k1), ("k2", k2)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")
    if k1 >= len(images):
        raise UsageError(f"k1 must be less than the {len(images)} images of query and gallery together, got {k1}")
    if k2 > len(images):
        raise UsageError(f"k2 must be at most the {len(images)} images of query and gallery together, got {k2}")
    if not (isinstance(lambda_value, numbers.Real) and 0 <= lambda_value <= 1):
        raise UsageError(f"lambda_value must be a number in [0, 1], got {lambda_value!r}")
    return int(k1), int(k2), float(lambda_value)


def _blocks(plan: _Plan) -> Iterator[NDArray[np.float32]]:
    encoded = _encode(plan, None)
    product = buffer(TILE)
    gallery = len(plan.images) - plan.num_query
    for start in range(0, plan.num_query, TILE):
        left = plan.images.packed(start, min(TILE, plan.num_query - start), False)
        block = np.empty((left.size, gallery), dtype=np.float32)
        with multiplying_threads() as multiply:
            for column in range(0, gallery, TILE):
                right = plan.images.packed(plan.num_query + column, TILE, True)
                multiply(left, right, product)
                block[:, column : column + right.size] = product[: left.size, : right.size]
        _finish(plan, encoded, start, block)
        yield block


def _encode(plan: _Plan, sink: Sink | None) -> _Encoded:
    images = plan.images
    tick = None if plan.progress is None else lambda done, _: plan.tick(done)
    nearest, smallest = nearest_of_all(images, max(plan.k1 + 1, plan.k2), sink, tick)
    farthest = 2.0 - 2.0 * smallest.astype(np.float64)
    index = nearest.index
    members = neighbourhoods(index, plan.k1)
    row = np.repeat(np.arange(len(images)), np.diff(members.indptr))
    distance = 2.0 - 2.0 * similarities(images, nearest, row, members.indices)
    members.data = np.exp(-distance * _inverse(farthest)[row])
    total = members.sum(axis=1)
    members.data /= total[row]
    if plan.k2 > 1:
        few = index[:, : plan.k2]
        starts = np.arange(len(few) + 1) * plan.k2
        mean = sparse.csr_array((np.full(few.size, 1.0 / plan.k2), few.ravel(), starts), shape=members.shape)
        members = product(mean, members)
    weights, weighed_by = members[: plan.num_query], members[plan.num_query :].T.tocsr()
    met = np.diff(weighed_by.indptr)[weights.indices]
    work = np.concatenate([[0], np.cumsum(met, dtype=np.int64)])[weights.indptr]
    return _Encoded(farthest, weights, weighed_by, work)


def _inverse(farthest: NDArray[np.float64]) -> NDArray[np.float64]:
    inverse: NDArray[np.float64] = np.divide(1.0, farthest, out=np.zeros_like(farthest), where=farthest > 0)
    return inverse


def _finish(plan: _Plan, encoded: _Encoded, start: int, block: NDArray[np.float32]) -> None:
    """Turn (R, G) similarities of the queries from ``start`` on into re-ranked distances, in place."""
    share, columns, work = plan.lambda_value, block.shape[1], encoded.work
    scale = 2.0 * share * _inverse(encoded.farthest[start : start + len(block)])
    block *= -scale[:, None].astype(np.float32)
    block += (scale + (1.0 - share))[:, None].astype(np.float32)
    top = 0
    while top < len(block):
        # An image that is near to everybody makes for much work: as many queries at a time as leave it bounded.
        most = int(np.searchsorted(work, work[start + top] + _CELLS, side="right")) - 1 - start
        stop = min(max(most, top + 1), top + max(1, _CELLS // columns), len(block))
        common = _sums_of_minima(encoded.weights, encoded.weighed_by, start + top, stop - top)
        # 1 - common / (2 - common): the 1 is in the block already
        block[top:stop] -= (1.0 - share) * (common / (2.0 - common))
        top = stop
    plan.tick(plan.tiles + start // TILE + 1)


def _sums_of_minima(
    weights: sparse.csr_array, weighed_by: sparse.csr_array, start: int, rows: int
) -> NDArray[np.float64]:
    """(rows, G): sum over l of min(V(query, l), V(gallery image, l)), each l meeting those who have it alone."""
    columns = weighed_by.shape[1]
    span = slice(weights.indptr[start], weights.indptr[start + rows])
    member, weight = weights.indices[span], weights.data[span]
    row = np.repeat(np.arange(rows), np.diff(weights.indptr[start : start + rows + 1]))
    first = weighed_by.indptr[member]
    count = weighed_by.indptr[member + 1] - first
    place = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
    minimum = np.minimum(np.repeat(weight, count), weighed_by.data[place])
    target = np.repeat(row * columns, count) + weighed_by.indices[place]
    sums: NDArray[np.float64] = np.bincount(target, minimum, minlength=rows * columns).astype(np.float64, copy=False)
    return sums.reshape(rows, columns)
