"""Embeddings of one or several sets, one after another, as unit vectors: checked once, copied a tile at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_core.errors import UsageError
from reid_core.metrics._lengths import checked_lengths
from reid_core.metrics._products import Packed, can_pack, pack
from reid_core.metrics._tensors import as_array

TILE = 512
"""Rows that are copied and multiplied at a time."""


_SHORTEST = 1e-300
"""Rows that are shorter are made longer first: one through their length is no number of float64."""


class Rows(NamedTuple):
    """One set of embeddings: ``kind`` (query, gallery) and ``names`` (image paths) are for the messages."""

    kind: str
    embedding: ArrayLike
    names: Sequence[str] | None = None


class UnitRows:
    """The rows of all sets in order, counted through; nothing but their lengths is kept beside the arrays given.

    Args:
        sets: (N, D) real each, at least one row; D the same in all.

    Raises:
        NumericalError: a row is not finite or all zeros; set, row and image are named.
        UsageError: shapes that do not fit, or no row.
    """

    def __init__(self, *sets: Rows) -> None:
        checked = [_array_and_lengths(rows) for rows in sets]
        self._arrays = [array for array, _ in checked]
        factors = [1.0 / lengths for _, lengths in checked]
        widths = {array.shape[1] for array in self._arrays}
        if len(widths) > 1:
            said = ", ".join(f"{rows.kind} {array.shape[1]}" for rows, array in zip(sets, self._arrays))
            raise UsageError(f"embeddings of {said} numbers: all must come from the same network")
        self.width = widths.pop()
        self.starts = np.cumsum([0, *map(len, self._arrays)])
        self._factors = np.concatenate(factors)
        if 1e-30 < self._factors.min() and self._factors.max() < 1e30:  # in float32 a third of the time
            self._factors = self._factors.astype(np.float32)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def tile(self, start: int, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill ``out``, (T, D), with the rows from ``start`` and zeros beyond the last; gives ``out``."""
        done = 0
        for first, array in zip(self.starts, self._arrays):
            part = array[max(start + done - first, 0) : max(start + len(out) - first, 0)]
            if len(part):
                factor = self._factors[start + done : start + done + len(part), None]
                np.multiply(part, factor, out=out[done : done + len(part)], casting="same_kind")
                done += len(part)
        out[done:] = 0
        return out

    def packed(self, start: int, size: int, right: bool, into: Packed | None = None) -> Packed:
        """The rows from ``start`` on, at most ``size``, as a side of products.

        Args:
            into: one of the same side that is no longer used.
        """
        size = min(size, len(self) - start)
        which = int(np.searchsorted(self.starts, start, side="right")) - 1
        array, first = self._arrays[which], int(self.starts[which])
        rows = None if into is None else into.rows
        if start + size <= self.starts[which + 1] and can_pack(array) and self._factors.dtype == np.float32:
            index = np.arange(start - first, start - first + size)
            return pack(array, right, index, self._factors[start : start + size], rows)
        return pack(self.tile(start, buffer(self.width, size)), right, into=rows)

    def pick(self, index: NDArray[Any]) -> NDArray[np.float32]:
        """(len(index), D) float32: the rows at ``index``."""
        picked = np.empty((len(index), self.width), dtype=np.float32)
        for first, array in zip(self.starts, self._arrays):
            inside = np.flatnonzero((index >= first) & (index < first + len(array)))
            rows = index[inside]
            picked[inside] = array[rows - first] * self._factors[rows, None]
        return picked


def buffer(width: int, rows: int = TILE) -> NDArray[np.float32]:
    """Room for ``rows`` rows."""
    return np.empty((rows, width), dtype=np.float32)


def _array_and_lengths(rows: Rows) -> tuple[NDArray[Any], NDArray[np.float64]]:
    array = np.asarray(as_array(rows.embedding))
    if array.ndim == 2 and len(array) == 0:
        raise UsageError(f"there is no {rows.kind} embedding: its shape is {array.shape}")
    lengths = checked_lengths(rows.kind, array, rows.names)
    short = lengths < _SHORTEST
    if short.any():
        array = np.where(short[:, None], array.astype(np.float64) * 2.0**200, array)
        lengths = np.where(short, lengths * 2.0**200, lengths)
    return array, lengths
