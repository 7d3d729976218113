"""``Counts`` of some queries on the device where the distances lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.metrics._chunks import Chunk
from reid_core.metrics._counting import Counts
from reid_core.metrics._shards import Shards
from reid_core.ops import count_tile, use_native


class DeviceCounts:
    """Counts of one chunk.

    Args:
        thresholds: (M,) distances of the chunk's matches, ascending for each query.
        backend: as ``counting_backend`` gives it.
    """

    def __init__(self, chunk: Chunk, thresholds: NDArray[Any], device: torch.device, backend: str) -> None:
        self.chunk, self.host_thresholds = chunk, thresholds
        self.backend = "torch" if backend == "python" else backend  # a GPU's plain form is PyTorch's
        self.thresholds, self.starts = there(thresholds, device), there(chunk.starts, device)
        self.low, self.high = there(chunk.low, device), there(chunk.high, device)
        self.between, self.tied = (torch.zeros(len(thresholds), dtype=torch.int64, device=device) for _ in range(2))

    def add_tile(self, tile: Tensor, first: int, column: int) -> None:
        """Count a tile whose first row is the chunk's query ``first`` and whose first column is the gallery's ``column``.

        Rows and columns of ``tile`` beyond the chunk's and the gallery's ends are left out.
        """
        tile = tile[: len(self.low) - first, : self.chunk.gallery_size - column]
        last = first + len(tile)
        starts, low, high = self.starts[first : last + 1], self.low[first:last], self.high[first:last]
        count_tile(tile, column, self.thresholds, starts, low, high, self.between, self.tied, backend=self.backend)

    def added_up(self) -> Counts:
        """The chunk's counts over all processes."""
        counts = Counts(self.host_thresholds, self.chunk.starts)
        counts.between, counts.tied = self.between.cpu().numpy(), self.tied.cpu().numpy()
        Shards.here().add_up(counts.between, counts.tied)
        return counts


def counting_backend(backend: str, device: torch.device) -> str:
    """What counts on a device: ``native`` or ``python``.

    Raises:
        ValueError: an unknown backend. RuntimeError: ``native`` was asked for and is missing.
    """
    if backend not in ("auto", "native", "python"):
        raise ValueError(f"backend must be auto, native or python, got {backend!r}")
    return "native" if use_native(device.type, "torch" if backend == "python" else backend) else "python"


def there(values: NDArray[Any], device: torch.device) -> Tensor:
    """A NumPy array on a device."""
    return torch.from_numpy(np.require(values, requirements=["C", "W"])).to(device)
