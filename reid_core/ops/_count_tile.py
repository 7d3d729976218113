"""Counting non-matches in front of matches, a tile of distances at a time, on the device where it lies.

The definition in NumPy is ``reid_core.metrics._counting.Counts.add_tile``, for finite distances; whoever calls this looks for
others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reid_core.ops._library import use_native


def count_tile(
    tile: Tensor,
    column: int,
    thresholds: Tensor,
    starts: Tensor,
    low: Tensor,
    high: Tensor,
    between: Tensor,
    tied: Tensor,
    *,
    backend: str = "auto",
) -> None:
    """Add the counts of one tile to ``between`` and ``tied``.

    A distance counts for the first match of its row that is not nearer: in ``between``, and in ``tied`` too where the two
    are equal. Distances behind all matches of the row (and NaN) count nowhere, nor do those of the row's own identity.
    All results are sums of whole numbers: they do not depend on the order of tiles, on threads or on the device.

    Args:
        tile: (R, C) float32 or float64; rows may be apart, columns must be neighbours.
        column: place in the gallery of the tile's first column.
        thresholds: (M,) of the tile's type: distances of the matches, ascending for each row.
        starts: (R + 1,) int64, ascending, in [0, M]: row i has matches ``starts[i]:starts[i + 1]``. The compiled operation
            looks at the values on the CPU alone; on a GPU that would mean to wait for it.
        low, high: (R,) int64: gallery places ``low:high`` are the row's own identity.
        between, tied: (M,) int64, added to in place.
        backend: ``auto``, ``native`` or ``torch``.

    Raises:
        RuntimeError: shapes, types or devices that do not fit; or ``native`` was asked for and is missing.
        ValueError: an unknown backend.
    """
    count = torch.ops.reid_core.count_tile if use_native(tile.device.type, backend) else _count_tile
    count(tile, column, thresholds, starts, low, high, between, tied)


def _count_tile(
    tile: Tensor,
    column: int,
    thresholds: Tensor,
    starts: Tensor,
    low: Tensor,
    high: Tensor,
    between: Tensor,
    tied: Tensor,
) -> None:
    """``count_tile`` in plain PyTorch."""
    sizes = starts.diff()
    if tile.numel() == 0 or len(thresholds) == 0:
        return
    last = torch.where(sizes > 0, thresholds[(starts[1:] - 1).clamp_min(0)], -torch.inf)
    places = torch.arange(column, column + tile.shape[1], device=tile.device)
    own = (places >= low[:, None]) & (places < high[:, None])
    row, position = ((tile <= last[:, None]) & ~own & (sizes > 0)[:, None]).nonzero(as_tuple=True)
    values = tile[row, position]
    # Binary search in each distance's own row of matches: the first that is not nearer is in [first, behind].
    first, behind = starts[row], starts[row + 1] - 1
    for _ in range(int(sizes.max()).bit_length()):
        middle = (first + behind) // 2
        nearer = (thresholds[middle] < values) & (first < behind)
        first = torch.where(nearer, middle + 1, first)
        behind = torch.where(nearer, behind, middle)
    between.index_add_(0, first, torch.ones_like(first))
    tied.index_add_(0, first, (thresholds[first] == values).to(torch.int64))


SHAPES = {"count_tile": lambda *arguments: None}
"""What the compiler needs to know of the operation: it fills in place."""
