"""Counting non-matches in front of matches, a tile of distances at a time, and what the counts amount to."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval_lib import QueryRanks, _native
from reid_core.metrics._matches import Ints, Matches


class Counts:
    """For every match, the non-matches between it and the match before it, and whether one lies at its distance.

    Counts of several tiles, threads or processes are added; that is exact and needs no order.

    Args:
        thresholds: (M,) float32 distances of the matches, ascending for each query.
        starts: (Q + 1,) where each query's matches begin.
        native: the compiled ``eval_lib._rank``, or None for the definition in Python.
    """

    def __init__(self, thresholds: NDArray[np.float32], starts: Ints, native: ModuleType | None = None) -> None:
        self.thresholds, self.starts, self.native = thresholds, starts, native
        self.isa = None if native is None else _native.instruction_set(native)
        self.between = np.zeros(len(thresholds), np.int64)
        self.tied = np.zeros(len(thresholds), np.int64)

    def add_tile(self, tile: NDArray[np.float32], width: int, first: int, low: Ints, high: Ints) -> bool:
        """Count the non-matches of one tile.

        Args:
            tile: (T, C) distances of queries ``first`` to ``first + R``; rows beyond R and columns beyond ``width`` are padding.
            low, high: (R,) columns ``low:high`` belong to the query's own identity and are not counted.

        Returns:
            False if a number that was to be counted is NaN or infinite; the counts are then of no use.
        """
        if self.native is not None and len(self.thresholds):
            starts = self.starts[first : first + len(low) + 1]
            arrays = low, high, self.thresholds, starts, self.isa, self.between, self.tied
            return bool(self.native.count_tile(tile, width, *arrays))
        for i, row in enumerate(tile[: len(low), :width]):
            own = slice(self.starts[first + i], self.starts[first + i + 1])
            matches = self.thresholds[own]
            others = np.concatenate([row[: low[i]], row[high[i] :]])
            if not np.isfinite(others).all():
                return False
            if len(matches) == 0:
                continue
            others = others[others <= matches[-1]]
            behind = np.searchsorted(matches, others, side="left")
            self.between[own] += np.bincount(behind, minlength=len(matches))
            np.add.at(self.tied[own], behind, matches[behind] == others)
        return True

    def add(self, other: Counts) -> None:
        """Add what was counted elsewhere for the same matches."""
        self.between += other.between
        self.tied += other.tied


class Scores(NamedTuple):
    """(Q,) of each query; without a match -1 and NaN. As in ``eval_lib.QueryRanks``."""

    first_hit: Ints
    num_matches: Ints
    num_tied: Ints
    ap: NDArray[np.float64]
    ap_trapezoid: NDArray[np.float64]
    inp: NDArray[np.float64]


def scores(counts: Counts) -> Scores:
    """The measures of every query, by the formulas and in the order of additions of ``eval_lib.reference``."""
    starts = counts.starts
    total = np.diff(starts)
    queries, size = len(total), int(starts[-1])
    first, last = starts[:-1][total > 0], starts[1:][total > 0] - 1
    owner = np.repeat(np.arange(queries), total)
    nth = np.arange(size) - starts[owner]
    sums = np.cumsum(counts.between)
    rank = nth + sums - (sums - counts.between)[starts[owner]]
    # Each query's numbers are added one after another, in the order of its matches: that is what bincount does.
    precision = (nth + 1) / (rank + 1)
    ap = np.bincount(owner, precision, queries)
    precision += np.where(rank == 0, 1.0, nth / np.maximum(rank, 1))
    ap_trapezoid = np.bincount(owner, 0.5 * precision, queries)
    # Of equal matches only the first was marked as tied.
    again = np.zeros(size, bool)
    again[1:] = (counts.thresholds[1:] == counts.thresholds[:-1]) & (nth[1:] > 0)
    tied = (counts.tied > 0)[np.maximum.accumulate(np.where(again, 0, np.arange(size)))]
    first_hit, last_hit = np.full(queries, -1, np.int64), np.full(queries, -1, np.int64)
    first_hit[total > 0], last_hit[total > 0] = rank[first], rank[last]
    num_tied = np.bincount(owner[tied], minlength=queries)
    with np.errstate(invalid="ignore"):
        inp = np.where(total, total / (last_hit + 1), np.nan)
        return Scores(first_hit, total, num_tied, ap / total, ap_trapezoid / total, inp)


def too_far_apart(query: int, image: int, distance: float) -> str:
    """The message for a distance that is not finite though the embeddings are."""
    return (
        f"the distance of query image {query} to gallery image {image} is {distance}: their embeddings are too far apart "
        "for float32; scale the embeddings down"
    )


def sort_matches(thresholds: NDArray[np.float32], owner: Ints) -> NDArray[np.float32]:
    """``thresholds`` ascending for each query; ``owner`` is ascending already."""
    return thresholds[np.lexsort((thresholds, owner))]


def query_ranks(parts: Sequence[Scores], matches: Matches, backend: str) -> QueryRanks:
    """The measures of every query, in the queries' own order, from those of all chunks of queries."""
    order = matches.query_order
    whole = Scores(*(np.concatenate(values) for values in zip(*parts)))
    return QueryRanks(
        **{name: unsort(values, order) for name, values in whole._asdict().items()},
        num_dropped=unsort(matches.num_dropped, order),
        num_junk=matches.num_junk,
        backend=backend,
    )


def unsort(values: NDArray[Any], order: Ints) -> NDArray[Any]:
    """``values`` of queries in ``order`` back in their own order."""
    back = np.empty_like(values)
    back[order] = values
    return back
