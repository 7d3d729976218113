"""Ranking straight from embeddings: products fused with counting, so that the matrix of distances never exists."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_lib import _checks
from reid_core.errors import UsageError
from reid_core.metrics._chunks import Chunk, cut_queries
from reid_core.metrics._counting import Counts, query_ranks, sort_matches
from reid_core.metrics._matches import Matches, find_matches
from reid_core.metrics._shards import Shards
from reid_core.metrics._tensors import as_array, device_of
from reid_core.metrics._tiles import (
    TILE,
    Embeddings,
    Metric,
    check_widths,
    left_tile,
    one_thread_a_product,
    tile_distances,
)
from reid_core.metrics.rank import as_rank_result, refuse_no_match
from reid_core.types import RankResult

Progress = Callable[[int, int], None]


def rank_metrics_from_embeddings(
    query: ArrayLike,
    gallery: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    metric: Metric = "cosine",
    max_rank: int = 50,
    memory: str | int = "256MB",
    *,
    protocol: str = "market1501",
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> RankResult:
    """What ``rank_metrics(distance_matrix(query, gallery, metric), ...)`` gives, to the same bits, without the matrix.

    CPU tensors of torch are taken as the arrays they are. For tensors on a CUDA device the products and the counting run
    there, in tiles of their own size: the distances differ from those of the CPU by the rounding of another product.

    Where ``torch.distributed`` has a process group, every process makes this call with the same inputs (memory maps, best),
    does its share of the gallery and gets the whole result: the same bits as from one process.

    Args:
        query: (Q, D) real. gallery: (G, D) real, a memory map too; or tensors, both on one device.
        q_pids, q_camids: (Q,) integers. g_pids, g_camids: (G,) integers; pid -1 is junk.
        metric: ``cosine`` or ``euclidean``.
        max_rank: length of the CMC.
        memory: what may be used beside the inputs, as a number of bytes or as in ``256MB``. Less memory means more passes
            over the gallery, never other figures. A tile of 512 queries (2048 on a GPU) with its matches is the least that
            works.
        protocol: ``market1501`` or ``any-camera``.
        query_names, gallery_names: image paths, for the messages.
        threads: products under way at a time, each made by one thread; by default one for each processor. Not on a GPU.
        progress: called with (tiles of the gallery done, all of them).

    Returns:
        RankResult, as ``rank_metrics``; on a GPU ``notes`` names the device.

    Raises:
        NumericalError: an embedding has a NaN or an infinite number, or is a row of zeros; row and image are named.
        DataError: no query has a match.
        UsageError: shapes, types or numbers that do not fit.
    """
    if protocol not in ("market1501", "any-camera"):
        raise UsageError(
            f"from embeddings the protocols are market1501 and any-camera, got {protocol!r}; for cuhk03 use "
            "rank_metrics(distance_matrix(query, gallery), ..., protocol='cuhk03')"
        )
    both: tuple[Any, Any] = query, gallery
    device = device_of(query=query, gallery=gallery)
    q_pids, g_pids, q_camids, g_camids = (as_array(values) for values in (q_pids, g_pids, q_camids, g_camids))
    sides: Any
    if device is None:
        sides = (
            Embeddings("query", np.asarray(as_array(both[0])), metric, query_names),
            Embeddings("gallery", np.asarray(as_array(both[1])), metric, gallery_names),
        )
    else:
        from reid_core.metrics._device import DeviceEmbeddings, count_embeddings

        sides = (
            DeviceEmbeddings("query", both[0], metric, query_names),
            DeviceEmbeddings("gallery", both[1], metric, gallery_names),
        )
    check_widths(*sides)
    budget = bytes_of(memory)
    try:
        _checks.count("max_rank", max_rank)
        workers = _checks.count("threads", usable_processors() if threads is None else threads)
        ids = (
            _checks.identities("q_pids", q_pids, len(sides[0]), "query embeddings"),
            _checks.identities("g_pids", g_pids, len(sides[1]), "gallery embeddings"),
            _checks.identities("q_camids", q_camids, len(sides[0]), "query embeddings"),
            _checks.identities("g_camids", g_camids, len(sides[1]), "gallery embeddings"),
        )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    matches = find_matches(*ids, drop_same_camera=protocol == "market1501")
    refuse_no_match(len(matches.owner), ids, matches.num_junk, int(matches.num_dropped.sum()))
    notes: dict[str, Any] = {"backend": "python"}
    if device is None:
        counts = count_all(sides, matches, metric, budget, workers, progress)
    else:
        counts, notes = count_embeddings(sides, matches, budget, progress)
    ranks = query_ranks(counts, matches, notes["backend"])
    return as_rank_result(ranks, ranks.cmc(max_rank), protocol, notes)


def bytes_of(memory: str | int) -> int:
    """``256MB`` (10^6), ``256MiB`` (2^20), ``2GB`` or a number of bytes.

    Raises:
        UsageError: anything else.
    """
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b\s*", str(memory), re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise UsageError(f"memory must be a number of bytes or a text like 256MB, got {memory!r}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmg".index(found[2].lower() or " "))


def usable_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_all(
    sides: tuple[Embeddings, Embeddings],
    matches: Matches,
    metric: Metric,
    budget: int,
    workers: int,
    progress: Progress | None,
) -> Counts:
    """Counts of all matches of all queries."""
    # Half of the memory for the queries, packed, with their matches; half for tiles that are used twice.
    row_bytes = sides[0].width * (4 if metric == "cosine" else 8)
    chunks = cut_queries(matches, TILE, row_bytes, budget // 2)
    thresholds = np.empty(len(matches.owner), np.float32)
    whole = Counts(thresholds, matches.starts)
    columns = len(Shards.here().mine(range(-(-len(matches.gallery_order) // TILE))))
    for number, (first, last) in enumerate(chunks):

        def tick(done: int, before: int = number * columns) -> None:
            if progress is not None:
                progress(before + done, len(chunks) * columns)

        part = _Chunk(sides, matches, metric, first, last, budget // 2)
        with one_thread_a_product(), ThreadPoolExecutor(workers) as pool:
            counts = part.run(pool, workers, tick)
        own = part.own
        thresholds[own], whole.between[own], whole.tied[own] = counts.thresholds, counts.between, counts.tied
    return whole


class _Chunk(Chunk):
    """Some tiles of queries against the whole gallery, worked on by threads."""

    def __init__(
        self,
        sides: tuple[Embeddings, Embeddings],
        matches: Matches,
        metric: Metric,
        first: int,
        last: int,
        spare: int,
    ) -> None:
        super().__init__(matches, first, last, TILE)
        self.gallery, self.metric = sides[1], metric
        self.order = matches.gallery_order
        self.lefts = [left_tile(sides[0], self.queries[r : r + TILE]) for r in self.rows]
        self.shards = Shards.here()
        self.mine = self.shards.mine(range(len(self.columns)))
        self.thresholds = np.zeros(len(self.owner), np.float32)
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
            total = Counts(self.thresholds, self.starts)
            parts = [Counts(self.thresholds, self.starts) for _ in range(workers)]
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
            counts.add_tile(tile[: len(low), :width], first, low, high)
