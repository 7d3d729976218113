"""Queries in chunks of whole tiles against the gallery, tile by tile: distances of the matches first, then the counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import NumericalError
from reid_core.metrics._counting import Counts, sort_matches
from reid_core.metrics._matches import Matches
from reid_core.metrics._shards import Shards
from reid_core.metrics._tiles import TILE, Embeddings, Metric, left_tile, one_thread_a_product, tile_distances

_MATCH_BYTES = 40
"""A match's distance, counts, owner and place, and what sorting them takes."""


def count_all(
    sides: tuple[Embeddings, Embeddings],
    matches: Matches,
    metric: Metric,
    budget: int,
    workers: int,
    native: ModuleType | None,
    progress: Callable[[int, int], None] | None,
) -> Counts:
    """Counts of all matches of all queries.

    Args:
        sides: queries and gallery.
        matches: of these.
        metric: ``cosine`` or ``euclidean``.
        budget: bytes; half of them for packed queries and their matches, half for tiles that are kept.
        workers: products under way at a time.
        native: the compiled kernel, or None.
        progress: called with (tiles of the gallery done, all of them) over all chunks.
    """
    starts = matches.starts
    row_bytes = sides[0].width * (4 if metric == "cosine" else 8)
    chunks = _cut(starts, row_bytes, budget // 2)
    thresholds = np.empty(len(matches.owner), np.float32)
    whole = Counts(thresholds, starts)
    columns = len(Shards.here().mine(range(-(-len(matches.gallery_order) // TILE))))
    for number, (first, last) in enumerate(chunks):

        def tick(done: int, before: int = number * columns) -> None:
            if progress is not None:
                progress(before + done, len(chunks) * columns)

        part = _Chunk(sides, matches, metric, first, last, budget // 2, native)
        with one_thread_a_product(), ThreadPoolExecutor(workers) as pool:
            counts = part.run(pool, workers, tick)
        own = slice(starts[first], starts[last])
        thresholds[own], whole.between[own], whole.tied[own] = counts.thresholds, counts.between, counts.tied
    return whole


def _cut(starts: NDArray[np.int64], row_bytes: int, budget: int) -> list[tuple[int, int]]:
    """First and last query of each chunk: whole tiles, as many as fit in ``budget`` bytes, at least one."""
    queries = len(starts) - 1
    chunks = []
    first = 0
    while first < queries:
        last = first + TILE
        while last < queries:
            more = last + TILE
            needed = (more - first) * row_bytes + int(starts[min(more, queries)] - starts[first]) * _MATCH_BYTES
            if needed > budget:
                break
            last = more
        chunks.append((first, min(last, queries)))
        first = last
    return chunks


class _Chunk:
    """Some tiles of queries against the whole gallery."""

    def __init__(
        self,
        sides: tuple[Embeddings, Embeddings],
        matches: Matches,
        metric: Metric,
        first: int,
        last: int,
        spare: int,
        native: ModuleType | None,
    ) -> None:
        self.gallery, self.metric, self.native = sides[1], metric, native
        self.queries = matches.query_order[first:last]
        self.order = matches.gallery_order
        self.low, self.high = matches.low[first:last], matches.high[first:last]
        starts = matches.starts[first : last + 1]
        self.starts = starts - starts[0]
        self.owner = matches.owner[starts[0] : starts[-1]] - first
        self.column = matches.column[starts[0] : starts[-1]]
        self.rows = range(0, last - first, TILE)
        self.lefts = [
            left_tile(sides[0], matches.query_order[first + r : min(first + r + TILE, last)]) for r in self.rows
        ]
        self.columns = range(0, len(self.order), TILE)
        self.shards = Shards.here()
        self.mine = self.shards.mine(range(len(self.columns)))
        self.thresholds = np.zeros(len(self.owner), np.float32)
        # Tiles that hold matches, by (column tile, row tile), with the matches in each.
        key = self.column // TILE * len(self.rows) + self.owner // TILE
        by_tile = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[by_tile], prepend=-1, append=-1))
        self.with_matches: dict[int, dict[int, NDArray[np.int64]]] = {}
        for a, b in zip(cuts[:-1], cuts[1:]):
            c, r = divmod(int(key[by_tile[a]]), len(self.rows))
            self.with_matches.setdefault(c, {})[r] = by_tile[a:b]
        self.kept: dict[tuple[int, int], NDArray[np.float32]] = {}
        self.room = spare // (TILE * TILE * 4)
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def run(self, pool: ThreadPoolExecutor, workers: int, tick: Callable[[int], None]) -> Counts:
        """Distances of the matches first, then the counts; a tile made for the first is kept for the second."""
        try:
            list(pool.map(self._match_distances, [c for c in self.mine if c in self.with_matches]))
            self.shards.add_up(self.thresholds)
            self.thresholds = sort_matches(self.thresholds, self.owner)
            total = Counts(self.thresholds, self.starts, self.native)
            parts = [Counts(self.thresholds, self.starts, self.native) for _ in range(workers)]
            free = list(parts)

            def count(c: int) -> None:
                counts = free.pop()
                self._count(c, counts)
                free.append(counts)

            for done, _ in enumerate(pool.map(count, self.mine)):
                tick(done + 1)
        except BaseException:
            self.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        for part in parts:
            total.add(part)
        self.shards.add_up(total.between, total.tied)
        return total

    def _right(self, c: int) -> NDArray[Any]:
        return self.gallery.tile(self.order[self.columns[c] : self.columns[c] + TILE])

    def _match_distances(self, c: int) -> None:
        right = self._right(c)
        for r, found in self.with_matches[c].items():
            if self.stop.is_set():
                return
            tile = np.empty((TILE, TILE), np.float32)
            tile_distances(self.lefts[r], right, self.metric, tile)
            self.thresholds[found] = tile[self.owner[found] - self.rows[r], self.column[found] - self.columns[c]]
            with self.lock:
                if len(self.kept) < self.room:
                    self.kept[c, r] = tile

    def _count(self, c: int, counts: Counts) -> None:
        begin = self.columns[c]
        width = min(TILE, len(self.order) - begin)
        right: NDArray[Any] | None = None
        scratch: NDArray[np.float32] | None = None
        for r, first in enumerate(self.rows):
            if self.stop.is_set():
                return
            tile = self.kept.pop((c, r), None)
            if tile is None:
                right = self._right(c) if right is None else right
                scratch = np.empty((TILE, TILE), np.float32) if scratch is None else scratch
                tile = scratch
                tile_distances(self.lefts[r], right, self.metric, tile)
            low = np.clip(self.low[first : first + TILE] - begin, 0, width)
            high = np.clip(self.high[first : first + TILE] - begin, 0, width)
            if not counts.add_tile(tile, width, first, low, high):
                row, column = np.argwhere(~np.isfinite(tile[: len(low), :width]))[0]
                raise NumericalError(
                    f"the distance of query image {self.queries[first + row]} to gallery image {self.order[begin + column]} is "
                    f"{tile[row, column]}: their embeddings are too far apart for float32; scale the embeddings down"
                )
