"""Ranking from embeddings on the CPU: threads make products of tiles and count what each shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval_lib import _native
from reid_core.errors import NumericalError
from reid_core.metrics._chunks import Chunk, cut_queries
from reid_core.metrics._counting import Counts, Scores, scores, sort_matches, too_far_apart
from reid_core.metrics._lengths import Metric
from reid_core.metrics._matches import Matches
from reid_core.metrics._shards import Shards
from reid_core.metrics._tensors import as_array
from reid_core.metrics._tiles import TILE, Embeddings, Tile, tile_distances

Sides = tuple[Embeddings, Embeddings]


def embeddings(kind: str, values: Any, metric: Metric, names: Sequence[str] | None) -> Embeddings:
    """One side, checked, from an array or a tensor on the CPU."""
    return Embeddings(kind, np.asarray(as_array(values)), metric, names)


def counter(backend: str, sides: Sides) -> ModuleType | None:
    """What counts: the compiled kernel, or None for the definition in Python."""
    return _native.choose(backend)


def count_embeddings(
    sides: Sides,
    matches: Matches,
    budget: int,
    workers: int,
    native: ModuleType | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Scores], dict[str, Any]]:
    """The measures of all queries, in the order of ``matches``, and what to note of who made them.

    Args:
        sides: queries and gallery.
        matches: of these.
        budget: bytes; half of them for packed queries and their matches, half for tiles that are used twice.
        workers: products under way at a time.
        native: as ``counter`` gives it.
        progress: called with (products counted, all of them) over all chunks.
    """
    row_bytes = sides[0].width * (4 if sides[0].metric == "cosine" else 8)
    chunks = cut_queries(matches, TILE.rows, row_bytes, budget // 2)
    found = []
    for number, (first, last) in enumerate(chunks):

        def tick(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, len(chunks) * total)

        part = _HostChunk(sides, matches, first, last, budget // 2, workers, native)
        with ThreadPoolExecutor(workers) as pool:
            found.append(scores(part.run(pool, workers, tick)))
        del part
    return found, {"backend": "python" if native is None else "native"}


class _PackedTiles:
    """Tiles of one side by number, each packed once for the tasks that follow each other, which want the same ones.

    Args:
        pack: packs a tile, into an array that is no longer used if it is given one: new memory costs as much as packing.
        room: how many tiles that nobody uses are kept.
    """

    def __init__(self, pack: Callable[[int, NDArray[Any] | None], Tile], room: int) -> None:
        self.pack, self.room = pack, room
        self.lock = threading.Lock()
        self.last: dict[int, _Shared] = {}
        self.free: list[NDArray[Any]] = []

    @contextmanager
    def use(self, number: int) -> Iterator[Tile]:
        """The tile, for as long as the context lasts."""
        with self.lock:
            shared = self.last.setdefault(number, _Shared())
            shared.users += 1
        try:
            with shared.lock:
                if shared.tile is None:
                    with self.lock:
                        into = self.free.pop() if self.free else None
                    shared.tile = self.pack(number, into)
            yield shared.tile
        finally:
            with self.lock:
                shared.users -= 1
                unused = [other for other, tile in self.last.items() if tile.users == 0 and tile.tile is not None]
                for other in unused[: max(0, len(unused) - self.room)]:
                    tile = self.last.pop(other).tile
                    self.free += [] if tile is None else [tile.packed.rows]


class _Shared:
    """A tile, or the promise of one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.tile: Tile | None = None


class _HostChunk(Chunk):
    """Some tiles of queries against the whole gallery, worked on by threads."""

    def __init__(
        self,
        sides: Sides,
        matches: Matches,
        first: int,
        last: int,
        spare: int,
        workers: int,
        native: ModuleType | None,
    ) -> None:
        super().__init__(matches, first, last, TILE)
        self.metric, self.native, self.order = sides[0].metric, native, matches.gallery_order
        # The functions know arrays, not this object: in a cycle of references its memory would outlive the call.
        queries, order, rows, columns = self.queries, self.order, self.rows, self.columns
        self.lefts = _PackedTiles(
            lambda r, into: sides[0].tile(queries[rows[r] : rows[r] + TILE.rows], into), len(self.rows)
        )
        self.rights = _PackedTiles(
            lambda c, into: sides[1].tile(order[columns[c] : columns[c] + TILE.columns], into), workers
        )
        self.shards = Shards.here()
        self.mine = self.shards.mine(range(len(self.columns)))
        self.thresholds = np.zeros(len(self.owner), np.float32)
        # Tiles with matches, as far as there is room; in one piece, which is had sooner than many. Never changed: threads
        # that look for matches and threads that count find the same array.
        self.found = [(c, r) for c in self.mine for r in self.with_matches.get(c, ())]
        room = min(len(self.found), spare // (TILE.rows * TILE.columns * 4))
        self.kept = dict(zip(self.found, np.empty((room, *TILE), np.float32)))
        self.ready, self.stop = threading.Event(), threading.Event()

    def run(self, pool: ThreadPoolExecutor, workers: int, tick: Callable[[int, int], None]) -> Counts:
        """Distances of the matches first, then the counts; a tile made for the first is kept for the second."""
        tiles = [(c, r) for c in self.mine for r in range(len(self.rows))]
        # Products column by column; what is only counted comes last, and fills the time until the last product is made.
        tiles.sort(key=self.kept.__contains__)
        workers = max(1, min(workers, len(tiles)))
        free = [np.empty(TILE, np.float32) for _ in range(workers)]
        parts: list[Counts] = []

        def count(tile: tuple[int, int]) -> None:
            scratch = free.pop()
            try:
                # The product needs no thresholds: it is made while others still look for them.
                distances = self.kept[tile] if tile in self.kept else self._multiply(tile, scratch)
                self.ready.wait()
                if not self.stop.is_set():
                    counts = parts.pop()
                    try:
                        self._count(tile, distances, counts)
                    finally:
                        parts.append(counts)
            finally:
                free.append(scratch)

        try:
            matched = pool.map(self._match_distances, self.found)
            counted = pool.map(count, tiles)
            with self.shards.together():
                list(matched)
            self.shards.add_up(self.thresholds)
            self._refuse_not_finite()
            self.thresholds = sort_matches(self.thresholds, self.owner)
            parts += [Counts(self.thresholds, self.starts, self.native) for _ in range(workers)]
            self.ready.set()
            with self.shards.together():
                for done, _ in enumerate(counted, 1):
                    tick(done, len(tiles))
        except BaseException:
            self.stop.set()
            self.ready.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        total = parts.pop()
        for part in parts:
            total.add(part)
        self.shards.add_up(total.between, total.tied)
        return total

    def _multiply(self, tile: tuple[int, int], out: NDArray[np.float32]) -> NDArray[np.float32]:
        c, r = tile
        if not self.stop.is_set():
            with self.lefts.use(r) as left, self.rights.use(c) as right:
                tile_distances(left, right, self.metric, out)
        return out

    def _match_distances(self, tile: tuple[int, int]) -> None:
        kept = self.kept.get(tile)
        distances = self._multiply(tile, np.empty(TILE, np.float32) if kept is None else kept)
        c, r = tile
        found = self.with_matches[c][r]
        self.thresholds[found] = distances[self.owner[found] - self.rows[r], self.column[found] - self.columns[c]]

    def _refuse_not_finite(self) -> None:
        """Before they are sorted: afterwards nobody knows whose they are."""
        bad = np.flatnonzero(~np.isfinite(self.thresholds))
        if len(bad):
            query, image = self.queries[self.owner[bad[0]]], self.order[self.column[bad[0]]]
            raise NumericalError(too_far_apart(query, image, self.thresholds[bad[0]]))

    def _count(self, tile: tuple[int, int], distances: NDArray[np.float32], counts: Counts) -> None:
        begin, first = self.columns[tile[0]], self.rows[tile[1]]
        width = min(TILE.columns, self.gallery_size - begin)
        low = np.clip(self.low[first : first + TILE.rows] - begin, 0, width)
        high = np.clip(self.high[first : first + TILE.rows] - begin, 0, width)
        if not counts.add_tile(distances, width, first, low, high):
            row, column = np.argwhere(~np.isfinite(distances[: len(low), :width]))[0]
            query, image = self.queries[first + row], self.order[begin + column]
            raise NumericalError(too_far_apart(query, image, distances[row, column]))
