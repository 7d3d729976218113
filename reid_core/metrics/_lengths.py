"""Lengths of embeddings, and what makes a set of them unfit: said once for every way of ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import NumericalError, UsageError
from reid_core.plugins import closest

Metric = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")

SAFE = (1e-15, 1e15)
"""Lengths whose squares float32 can add up: shorter and longer rows are measured in float64."""


_BLOCK = 512
"""Rows whose lengths are measured at a time."""


def checked_lengths(kind: str, values: NDArray[Any], names: Sequence[str] | None = None) -> NDArray[np.float64]:
    """(N,) Euclidean lengths of the rows of (N, D) ``values``.

    Args:
        kind: ``query`` or ``gallery``, for the messages. names: image paths, likewise.

    Raises:
        NumericalError: a row has a NaN or an infinite number, or is all zeros; row and image are named.
        UsageError: not (N, D) real numbers, or another number of names.
    """
    if values.ndim != 2 or values.shape[1] == 0 or values.dtype.kind not in "fiu":
        raise UsageError(f"{kind} embeddings must be (N, D) real numbers, got {values.dtype} {values.shape}")
    check_names(kind, names, len(values))
    lengths = np.empty(len(values))
    for start in range(0, len(values), _BLOCK):
        lengths[start : start + _BLOCK] = _lengths(np.asarray(values[start : start + _BLOCK]))
    check_lengths(kind, lengths, names)
    return lengths


def _lengths(part: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) Euclidean lengths; NaN or infinite where the row is not finite."""
    part = np.ascontiguousarray(part)  # sums of another layout would be rounded otherwise
    if part.dtype == np.float32:
        whole = part.shape[1] // 64 * 64
        pieces = part[:, :whole].reshape(len(part), -1, 64)
        # Short sums in float32, their sum in float64: as exact as needed, at the speed of memory.
        squares = np.einsum("ijk,ijk->ij", pieces, pieces).sum(axis=1, dtype=np.float64)
        squares += np.einsum("ij,ij->i", part[:, whole:], part[:, whole:])
        lengths: NDArray[np.float64] = np.sqrt(squares)
        odd = np.flatnonzero(~((lengths > SAFE[0]) & (lengths < SAFE[1])))
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
