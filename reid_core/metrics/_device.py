"""Ranking from embeddings on a CUDA device: products and counting are made there, and only whole numbers come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from reid_core.errors import NumericalError
from reid_core.metrics import _device_tiles
from reid_core.metrics._chunks import Chunk, cut_queries
from reid_core.metrics._counting import Scores, scores, sort_matches, too_far_apart
from reid_core.metrics._device_counts import DeviceCounts, counting_backend, there
from reid_core.metrics._device_tiles import DeviceEmbeddings, left_tile, plain_arithmetic, tile_distances
from reid_core.metrics._lengths import Metric
from reid_core.metrics._matches import Matches
from reid_core.metrics._shards import Shards
from reid_core.metrics._tiles import TileShape

Sides = tuple[DeviceEmbeddings, DeviceEmbeddings]


def embeddings(kind: str, values: Tensor, metric: Metric, names: Sequence[str] | None) -> DeviceEmbeddings:
    """One side, checked."""
    return DeviceEmbeddings(kind, values, metric, names)


def counter(backend: str, sides: Sides) -> str:
    """What counts: ``native`` or ``python``."""
    return counting_backend(backend, sides[0].device)


def count_embeddings(
    sides: Sides,
    matches: Matches,
    budget: int,
    workers: int,
    backend: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Scores], dict[str, Any]]:
    """The measures of all queries, in the order of ``matches``, and what to note of who made them; as ``_host.count_embeddings``.

    ``workers`` has no meaning here; ``backend`` is as ``counter`` gives it.
    """
    shape, device = TileShape(_device_tiles.TILE, _device_tiles.TILE), sides[0].device
    found = []
    row_bytes = sides[0].width * (4 if sides[0].metric == "cosine" else 8)
    chunks = cut_queries(matches, shape.rows, row_bytes, budget // 2)
    order = there(matches.gallery_order, device)
    for number, (first, last) in enumerate(chunks):

        def tick(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)  # what was asked for is not what was done
                progress(number * total + done, len(chunks) * total)

        with plain_arithmetic(device):
            part = _DeviceChunk(sides, matches, first, last, shape, order, budget // 2)
            found.append(scores(part.run(backend, tick).added_up()))
    return found, {"backend": backend, "device": str(device)}


class _DeviceChunk(Chunk):
    """Some tiles of queries against the whole gallery."""

    def __init__(
        self, sides: Sides, matches: Matches, first: int, last: int, shape: TileShape, order: Tensor, spare: int
    ) -> None:
        super().__init__(matches, first, last, shape)
        query, self.gallery = sides
        self.device, self.metric, self.order = query.device, query.metric, order
        queries = there(self.queries, self.device)
        self.lefts = [left_tile(query, queries[r : r + shape.rows]) for r in self.rows]
        self.mine = Shards.here().mine(range(len(self.columns)))
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.fine: list[Tensor] = []
        self.room = spare // (shape.rows * shape.columns * 4)

    def run(self, backend: str, tick: Callable[[int, int], None]) -> DeviceCounts:
        """Distances of the matches first, then the counts; a tile made for the first is kept for the second."""
        shards = Shards.here()
        with shards.together():
            found = self._match_distances().cpu().numpy()
        shards.add_up(found)
        counts = DeviceCounts(self, sort_matches(found, self.owner), self.device, backend)
        for done, c in enumerate(self.mine):
            right: Tensor | None = None
            for r, row in enumerate(self.rows):
                distances = self.kept.pop((c, r), None)
                if distances is None:
                    right = self._right(c) if right is None else right
                    distances = self._distances(r, right)
                if self.metric == "euclidean":  # cosines of finite embeddings are finite
                    self.fine.append(distances.isfinite().all())
                counts.add_tile(distances, row, self.columns[c])
            tick(done + 1, len(self.mine))
        with shards.together():
            self._refuse_not_finite()
        return counts

    def _distances(self, r: int, right: Tensor) -> Tensor:
        return tile_distances(self.lefts[r], right, self.metric)

    def _refuse_not_finite(self) -> None:
        """Looked at last, all at once: to ask after each tile would be to wait for it."""
        if not self.fine or bool(torch.stack(self.fine).all()):
            return
        for c in self.mine:
            right = self._right(c)
            for r, first in enumerate(self.rows):
                distances = self._distances(r, right)[
                    : len(self.queries) - first, : self.gallery_size - self.columns[c]
                ]
                for row, column in (~distances.isfinite()).nonzero()[:1].tolist():
                    query, image = self.queries[first + row], int(self.order[self.columns[c] + column])
                    raise NumericalError(too_far_apart(query, image, float(distances[row, column])))

    def _right(self, c: int) -> Tensor:
        return self.gallery.tile(self.order[self.columns[c] : self.columns[c] + self.shape.columns])

    def _match_distances(self) -> Tensor:
        """(M,) float32; zeros where another process has the tile."""
        thresholds = torch.zeros(len(self.owner), dtype=torch.float32, device=self.device)
        for c in self.mine:
            if c not in self.with_matches:
                continue
            right = self._right(c)
            for r, found in self.with_matches[c].items():
                distances = self._distances(r, right)
                row = there(self.owner[found] - self.rows[r], self.device)
                column = there(self.column[found] - self.columns[c], self.device)
                thresholds[there(found, self.device)] = distances[row, column]
                if len(self.kept) < self.room:
                    self.kept[c, r] = distances
        return thresholds
