"""Embeddings on a device as tiles of a fixed size, and the distances of two tiles.

As ``_tiles``, with tiles that suit a GPU. Reductions and products always have the same shape and alignment (rows and columns
beyond the end are zeros), so what a tile gives depends neither on memory nor on how many tiles there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from reid_core.errors import UsageError
from reid_core.metrics._lengths import Metric, check_lengths, check_metric, check_names

TILE = 2048
"""Rows and columns of one product: its 256 parts of 128 x 128 fill the largest GPUs, its 16 MB of distances stay in their
second-level cache until they are counted, and starting a kernel (some 10 us) is little beside it. 512, which is right for a
core's cache, has 16 such parts."""

_ALIGN = 32

_REAL = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


class DeviceEmbeddings:
    """The rows of one side, checked, handed out as tiles on their device.

    Args:
        kind: ``query`` or ``gallery``, for the messages.
        values: (N, D) real; never copied whole.
        metric: ``cosine`` or ``euclidean``.
        names: image paths, for the messages.

    Raises:
        NumericalError: a row has a NaN or an infinite number, or is all zeros; row and image are named.
        UsageError: not (N, D) real numbers, another number of names, or an unknown metric.
    """

    def __init__(self, kind: str, values: Tensor, metric: Metric, names: Sequence[str] | None = None) -> None:
        check_metric(metric)
        shape = tuple(values.shape)
        if values.ndim != 2 or shape[1] == 0 or values.dtype not in _REAL:
            raise UsageError(f"{kind} embeddings must be (N, D) real numbers, got {values.dtype} {shape}")
        check_names(kind, names, len(values))
        self.values, self.metric, self.device = values.detach(), metric, values.device
        with plain_arithmetic(self.device):
            parts = [_lengths(self._padded(self.values[a : a + TILE])) for a in range(0, len(values), TILE)]
        self._lengths = torch.cat(parts or [torch.zeros(0, dtype=torch.float64, device=self.device)])[: len(values)]
        check_lengths(kind, self._lengths.cpu().numpy(), names)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[1])

    def tile(self, rows: Tensor, sign: float = 1.0) -> Tensor:
        """(TILE, D and zeros): the rows, at most TILE; unit vectors in float32 times ``sign``, or plain float64."""
        plain = self._padded(self.values[rows])
        if self.metric == "euclidean":
            return plain
        plain[: len(rows)] /= self._lengths[rows, None]
        return plain.mul_(sign).float()

    def _padded(self, part: Tensor) -> Tensor:
        """(TILE, D and zeros) float64. Rows begin aligned, so that each is added up in the same order."""
        width = -(-self.width // _ALIGN) * _ALIGN
        padded = torch.zeros((TILE, width), dtype=torch.float64, device=self.device)
        padded[: len(part), : self.width] = part
        return padded


def _lengths(exact: Tensor) -> Tensor:
    """(N,) Euclidean lengths; NaN or infinite where the row is not finite."""
    # Scaled by the largest entry, so that squares neither overflow nor vanish.
    largest = exact.abs().amax(dim=1)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    return scale * (exact / scale[:, None]).square().sum(dim=1).sqrt()


def left_tile(query: DeviceEmbeddings, rows: Tensor) -> Tensor:
    """A query tile as ``tile_distances`` wants it: for cosine negated."""
    return query.tile(rows, sign=-1.0)


def tile_distances(left: Tensor, right: Tensor, metric: Metric) -> Tensor:
    """(TILE, TILE) float32 distances of a ``left_tile`` and a gallery tile: negative cosine, or Euclidean."""
    if metric == "cosine":
        return left @ right.T
    # In float64: the squares cancel, and what is left of float32 would be noise for near images.
    squares = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)[None]
    squares -= 2.0 * (left @ right.T)
    return squares.clamp_min_(0.0).sqrt_().float()


@contextmanager
def plain_arithmetic(device: torch.device) -> Iterator[None]:
    """float32 products are made in float32, not in TF32 or under autocast, whatever the caller has set; no gradients."""
    backend: Any = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    matmul = backend.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.fp32_precision = before
