"""Products of all pairs of rows, whose bits depend on the pair alone.

A BLAS adds up an entry of a product in an order that depends on where it lies, so the same two images would be as near
here and nearer there. ``csrc/product.hpp`` keeps one order; where it is not compiled, NumPy computes what no order changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eval_lib import _native

Ints = NDArray[np.int64]

_GRID = 2.0**26
"""Unit vectors are rounded to multiples of 1 / this where NumPy multiplies: a product is then a multiple of 2**-52, no sum of
them exceeds 1 but by rounding, and float64 adds them up without rounding, in any order."""


class Packed(NamedTuple):
    """Rows of a left or a right side, ready for ``multiply``.

    Attributes:
        rows: (panels, D, width) for the compiled product; else (size, D) float64.
        size: how many rows.
    """

    rows: NDArray[Any]
    size: int

    def head(self, size: int) -> Packed:
        """The first ``size`` of the rows."""
        width = self.rows.shape[2] if self.rows.ndim == 3 else 1
        return Packed(self.rows[: -(-size // width)], size)


def pack(
    table: NDArray[Any],
    right: bool,
    rows: Ints | None = None,
    factors: NDArray[Any] | None = None,
    into: NDArray[Any] | None = None,
) -> Packed:
    """The rows of ``table`` at ``rows`` (all of them), each times its factor (1).

    Args:
        table: (N, D) float32, its rows unit vectors once multiplied with their factors; or float64 of any size, which can
            be multiplied only where the compiled product is there. Numbers of a row must be neighbours in memory.
        right: for which side.
        factors: of the type of ``table``.
        into: ``Packed.rows`` of the same side and D that is no longer used; it is overwritten if it is large enough.
    """
    product = _native.product()
    rows = np.arange(len(table)) if rows is None else rows
    factors = np.ones(len(rows), table.dtype) if factors is None else factors
    if product is None:
        exact = table[rows].astype(np.float64) * factors[:, None]
        return Packed(np.rint(exact * _GRID) / _GRID if table.dtype == np.float32 else exact, len(rows))
    width = product.panel_widths(table.itemsize)[right]
    count = -(-len(rows) // width)
    panels = (
        np.empty((count, table.shape[1], width), table.dtype) if into is None or len(into) < count else into[:count]
    )
    fill = product.pack_float32 if table.dtype == np.float32 else product.pack_float64
    fill(table, rows, factors, panels)
    return Packed(panels, len(rows))


def can_pack(table: NDArray[Any]) -> bool:
    """Whether ``pack`` takes a float32 table as it lies."""
    rows, columns = table.strides
    return bool(table.dtype == np.float32 and columns == 4 and rows % 4 == 0 and table.flags.aligned)


def multiply(left: Packed, right: Packed, out: NDArray[Any]) -> None:
    """Fill ``out[:left.size, :right.size]``, C-contiguous and of the packed type (float32 without the compiled product)."""
    product = _native.product()
    if product is None:
        out[: left.size, : right.size] = left.rows @ right.rows.T
        return
    call = product.multiply_float32 if out.dtype == np.float32 else product.multiply_float64
    call(left.rows, left.size, right.rows, right.size, _native.instruction_set(product), out)


class Multiply(Protocol):
    """``multiply``, however many threads it has."""

    def __call__(self, left: Packed, right: Packed, out: NDArray[Any]) -> None:
        """As ``multiply``."""


@contextmanager
def multiplying_threads() -> Iterator[Multiply]:
    """``multiply`` on all processors, which share the left side."""
    workers = _native.usable_processors()
    with ThreadPoolExecutor(workers) as pool:

        def shared(left: Packed, right: Packed, out: NDArray[Any]) -> None:
            if _native.product() is None:  # NumPy has threads of its own
                multiply(left, right, out)
                return
            width = left.rows.shape[2]
            step = -(-len(left.rows) // workers)

            def part(first: int) -> None:
                rows = left.rows[first : first + step]
                start = first * width
                multiply(Packed(rows, min(len(rows) * width, left.size - start)), right, out[start:])

            list(pool.map(part, range(0, len(left.rows), step)))

        yield shared
