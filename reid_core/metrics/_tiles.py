"""Embeddings as tiles of a fixed size, and the distances of two tiles: bits that depend on the pair alone.

Matrix products of different shapes differ in the last bits. So every product here is one of ``TILE`` x ``TILE`` pairs, rows
beyond the end are zeros, and one thread makes it: how much memory or how many threads there are decides only how many tiles
are under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from reid_core.errors import NumericalError, UsageError
from reid_core.plugins import closest

Metric = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")

TILE = 512
"""Rows and columns of one product."""

_SAFE = (1e-15, 1e15)
"""Lengths whose squares float32 can add up: shorter and longer rows are measured in float64."""


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
        self.values, self.metric = values, metric
        lengths = np.empty(len(values))
        for start in range(0, len(values), TILE):
            lengths[start : start + TILE] = _lengths(np.asarray(values[start : start + TILE]))
        check_lengths(kind, lengths, names)
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[1])

    def tile(self, rows: slice | NDArray[np.int64], sign: float = 1.0) -> NDArray[Any]:
        """(TILE, D): the rows, at most TILE, then zeros; unit vectors in float32 times ``sign``, or plain float64."""
        part = np.asarray(self.values[rows])
        if self.metric == "euclidean":
            plain = np.zeros((TILE, self.width), dtype=np.float64)
            plain[: len(part)] = part
            return plain
        lengths = self._lengths[rows]
        unit = np.empty((TILE, self.width), dtype=np.float32)
        unit[len(part) :] = 0
        if part.dtype == np.float32:
            np.multiply(part, (sign / lengths).astype(np.float32)[:, None], out=unit[: len(part)])
            # The reciprocal of such a length, or the product with it, would leave float32's range.
            odd = np.flatnonzero((lengths < _SAFE[0]) | (lengths > _SAFE[1]))
        else:
            odd = np.arange(len(part))
        if len(odd):
            unit[odd] = sign * (part[odd].astype(np.float64) / lengths[odd, None])
        return unit


def _lengths(part: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) Euclidean lengths; NaN or infinite where the row is not finite."""
    if part.dtype == np.float32:
        whole = part.shape[1] // 64 * 64
        pieces = part[:, :whole].reshape(len(part), -1, 64)
        # Short sums in float32, their sum in float64: as exact as needed, at the speed of memory.
        squares = np.einsum("ijk,ijk->ij", pieces, pieces).sum(axis=1, dtype=np.float64)
        squares += np.einsum("ij,ij->i", part[:, whole:], part[:, whole:])
        lengths: NDArray[np.float64] = np.sqrt(squares)
        odd = np.flatnonzero(~((lengths > _SAFE[0]) & (lengths < _SAFE[1])))
    else:
        lengths, odd = np.empty(len(part)), np.arange(len(part))
    if len(odd):
        exact = part[odd].astype(np.float64)
        # Scaled by the largest entry, so that squares neither overflow nor vanish.
        largest = np.abs(exact).max(axis=1)
        scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        lengths[odd] = scale * np.sqrt(np.square(exact / scale[:, None]).sum(axis=1))
    return lengths


def check_metric(metric: str) -> None:
    """Refuse an unknown distance.

    Raises:
        UsageError: it is unknown.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown distance {metric!r}: known are {' and '.join(METRICS)}.{closest(metric, METRICS)}")


def check_names(kind: str, names: Sequence[str] | None, size: int) -> None:
    """Image paths, where given, must be as many as embeddings.

    Raises:
        UsageError: they are not.
    """
    if names is not None and len(names) != size:
        raise UsageError(f"{len(names)} names were given for {size} {kind} embeddings")


def check_lengths(kind: str, lengths: NDArray[np.float64], names: Sequence[str] | None) -> None:
    """(N,) lengths of the rows must be finite and not zero.

    Raises:
        NumericalError: one is not; row and image are named.
    """
    for trouble, bad in (("is not finite", ~np.isfinite(lengths)), ("is all zeros", lengths == 0)):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            image = "" if names is None else f" ({names[row]})"
            raise NumericalError(
                f"the embedding of {kind} image {row}{image} {trouble} ({int(bad.sum())} such rows of {len(bad)}): it "
                "has no distance to anything. Look at the image, and at whether the network's weights are finite"
            )


class HasWidth(Protocol):
    """Embeddings, wherever they are."""

    @property
    def width(self) -> int:
        """D."""


def check_widths(query: HasWidth, gallery: HasWidth) -> None:
    """Both sides must have rows of the same width.

    Raises:
        UsageError: they have not.
    """
    if query.width != gallery.width:
        raise UsageError(
            f"query embeddings have {query.width} numbers, gallery embeddings {gallery.width}: "
            "both must come from the same network"
        )


def left_tile(query: Embeddings, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
    """A query tile as ``tile_distances`` wants it: for cosine negated, which costs nothing here and changes no bit."""
    return query.tile(rows, sign=-1.0)


def tile_distances(left: NDArray[Any], right: NDArray[Any], metric: Metric, out: NDArray[np.float32]) -> None:
    """(TILE, TILE) float32 distances of a ``left_tile`` and a gallery tile: negative cosine, or Euclidean."""
    if metric == "cosine":
        np.matmul(left, right.T, out=out)
        return
    # In float64: the squares cancel, and what is left of float32 would be noise for near images.
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None]
    squares -= 2.0 * (left @ right.T)
    np.maximum(squares, 0.0, out=squares)
    out[:] = np.sqrt(squares, out=squares)


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """BLAS makes every product with one thread: with several, bits would depend on how many there are."""
    with threadpool_limits(1, user_api="blas"):
        yield
