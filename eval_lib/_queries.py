"""Ranks all queries, by the definition or by its compiled twin, and sums up."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_lib import _checks, _native, reference

_PAIRS_PER_BLOCK = 1 << 20
"""Distances handed over at a time: about a millisecond, after which Ctrl-C is looked at and a waiting thread has its
turn; a copy of them, needed for odd strides or types, stays below 8 MiB a thread."""


@dataclass(frozen=True)
class QueryRanks:
    """Measures of every query; read-only arrays. Queries without a match have first_hit -1 and NaN scores.

    Attributes:
        first_hit: (Q,) int64, 0-based rank of the first match.
        ap, ap_trapezoid, inp: (Q,) float64 fractions, high is good.
        num_matches, num_tied, num_dropped: (Q,) int64: matches kept; matches at exactly the distance of a non-match;
            images left out for the query's own pid and camera.
        num_junk: gallery images with pid -1.
        backend: ``native`` or ``python``, which of the two did it.
    """

    first_hit: NDArray[np.int64]
    ap: NDArray[np.float64]
    ap_trapezoid: NDArray[np.float64]
    inp: NDArray[np.float64]
    num_matches: NDArray[np.int64]
    num_tied: NDArray[np.int64]
    num_dropped: NDArray[np.int64]
    num_junk: int
    backend: str

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(Q,) bool: the query has a match."""
        return self.first_hit >= 0

    @property
    def mAP(self) -> float:
        """Mean of ``ap`` over valid queries."""
        return self.mean(self.ap)

    @property
    def tie_share(self) -> float:
        """Share of all matches that lie at exactly the distance of some non-match."""
        return int(self.num_tied.sum()) / max(int(self.num_matches.sum()), 1)

    def mean(self, values: NDArray[np.float64]) -> float:
        """Mean over valid queries of (Q,) values, rounded once: the order of the queries does not matter."""
        chosen = values[self.valid]
        return math.fsum(chosen.tolist()) / len(chosen)

    def cmc(self, max_rank: int) -> NDArray[np.float64]:
        """(max_rank,) float64: share of valid queries whose first match is among the first k; it never falls.

        Raises:
            ValueError, TypeError: ``max_rank`` is not a whole number of at least 1.
        """
        size = _checks.max_rank(max_rank)
        hits = self.first_hit[self.valid]
        return np.cumsum(np.bincount(hits[hits < size], minlength=size)) / len(hits)


def rank_queries(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    *,
    drop_same_camera: bool = True,
    backend: str = "auto",
    threads: int | None = None,
) -> QueryRanks:
    """Rank the gallery for every query; the rules stand in ``eval_lib.reference``.

    Args:
        distmat: (Q, G) float16, float32 or float64, small is near. Any strides, read-only or not; never copied whole.
        q_pids, g_pids: (Q,) and (G,) integers; gallery images with pid -1 are junk.
        q_camids, g_camids: (Q,) and (G,) integers.
        drop_same_camera: leave out images with both the pid and the camera of the query.
        backend: ``auto``, ``native`` (compiled) or ``python``. The results are the same.
        threads: for the compiled code; by default one for each processor, fewer for small tables.

    Returns:
        QueryRanks, with at least one valid query.

    Raises:
        NotFiniteError: a distance is NaN or infinite, anywhere in ``distmat``; the first one is named.
        NoMatchError: no query has a match.
        ValueError, TypeError: lengths that do not fit, numbers of a wrong kind, an unknown backend.
        RuntimeError: ``native`` was asked for and is missing.
    """
    table = _checks.distances(distmat)
    rows, columns = table.shape
    ids = (
        _checks.identities("q_pids", q_pids, rows, "rows (queries) of distmat"),
        _checks.identities("g_pids", g_pids, columns, "columns (gallery images) of distmat"),
        _checks.identities("q_camids", q_camids, rows, "rows (queries) of distmat"),
        _checks.identities("g_camids", g_camids, columns, "columns (gallery images) of distmat"),
    )
    threads = _checks.count("threads", _default_threads(table.size) if threads is None else threads)
    native = _native.choose(backend)
    counts = np.empty((rows, 4), dtype=np.int64)
    scores = np.empty((rows, 3), dtype=np.float64)
    if columns:
        drop = bool(drop_same_camera)
        fill = _native_fill(native, ids, drop) if native else _python_fill(ids, drop)
        _in_blocks(fill, table, counts, scores, threads if native else 1)
    num_junk = int((ids[1] == _checks.JUNK_PID).sum())
    if columns == 0 or not (counts[:, 0] >= 0).any():
        dropped = 0 if columns == 0 else int(counts[:, 3].sum())
        raise _checks.NoMatchError(_no_match_message(rows, columns, num_junk, dropped, ids[0], ids[1]))
    for array in (counts, scores):
        array.setflags(write=False)
    return QueryRanks(
        first_hit=counts[:, 0],
        ap=scores[:, 0],
        ap_trapezoid=scores[:, 1],
        inp=scores[:, 2],
        num_matches=counts[:, 1],
        num_tied=counts[:, 2],
        num_dropped=counts[:, 3],
        num_junk=num_junk,
        backend="native" if native else "python",
    )


_Ids = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
# Fills counts and scores of some rows; returns row and column of the first distance that is NaN or infinite, or (-1, -1).
_Fill = Callable[[NDArray[Any], slice, NDArray[np.int64], NDArray[np.float64]], tuple[int, int]]


def _default_threads(pairs: int) -> int:
    if pairs < 2_000_000:
        return 1  # they would take longer to start than one needs
    usable = _native.usable_processors()
    return max(1, min(usable, 16, pairs // 1_000_000))


def _in_blocks(
    fill: _Fill, table: NDArray[Any], counts: NDArray[np.int64], scores: NDArray[np.float64], threads: int
) -> None:
    """Fill ``counts`` and ``scores`` block by block; the threads end before this returns, so a later fork is safe."""
    rows, columns = table.shape
    real = _checks.real_type(table)
    size = max(1, min(_PAIRS_PER_BLOCK // columns, -(-rows // threads)))

    def block(start: int) -> None:
        part = slice(start, start + size)
        # Native byte order, aligned and in rows; a table that is so already is not copied.
        distances = np.require(table[part], dtype=real, requirements=["C", "A"])
        row, column = fill(distances, part, counts[part], scores[part])
        if row >= 0:
            raise _checks.NotFiniteError(start + row, column, float(distances[row, column]))

    starts = range(0, rows, size)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            block(start)
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            # In order, so that the first bad distance of the table is the one that is named.
            for done in [pool.submit(block, start) for start in starts]:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C only the blocks under way are finished
            raise


def _native_fill(module: Any, ids: _Ids, drop_same_camera: bool) -> _Fill:
    q_pids, g_pids, q_camids, g_camids = ids
    gallery = module.Gallery(g_pids, g_camids)
    isa = _native.instruction_set(module)

    def fill(
        distances: NDArray[Any], part: slice, counts: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> tuple[int, int]:
        rank = gallery.rank_float32 if distances.dtype == np.float32 else gallery.rank_float64
        row, column = rank(distances, q_pids[part], q_camids[part], drop_same_camera, isa, counts, scores)
        return row, column

    return fill


def _python_fill(ids: _Ids, drop_same_camera: bool) -> _Fill:
    """The definition, in the place of the compiled twin."""
    q_pids, g_pids, q_camids, g_camids = ids

    def fill(
        distances: NDArray[Any], part: slice, counts: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> tuple[int, int]:
        queries = zip(distances, q_pids[part].tolist(), q_camids[part].tolist())
        for i, (row, pid, camid) in enumerate(queries):
            column = reference.first_not_finite(row)
            if column >= 0:
                return i, column
            one = reference.rank_query(row, g_pids, g_camids, pid, camid, drop_same_camera)
            counts[i] = one.first_hit, one.num_matches, one.num_tied, one.num_dropped
            scores[i] = one.ap, one.ap_trapezoid, one.inp
        return -1, -1

    return fill


def _no_match_message(
    rows: int, columns: int, junk: int, dropped: int, q_pids: NDArray[np.int64], g_pids: NDArray[np.int64]
) -> str:
    """What kept every query from having a match, in numbers."""
    common = len(np.intersect1d(q_pids, g_pids[g_pids != _checks.JUNK_PID]))
    message = (
        f"none of the {rows} queries has a match among the {columns} gallery images: {common} identities are in both, "
        f"{junk} gallery images have pid -1, {dropped} pairs were left out for the same identity and camera"
    )
    if common == 0:
        return message + "; query identities must appear in the gallery, check the split and how pids are read"
    return message + "; with one camera, or none, rank without the camera rule (protocol any-camera)"
