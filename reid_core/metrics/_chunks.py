"""Some queries against the whole gallery, as tiles: which there are, and in which of them matches lie."""

from __future__ import annotations

import numpy as np

from reid_core.metrics._matches import Ints, Matches
from reid_core.metrics._tiles import TileShape

_MATCH_BYTES = 150
"""What is held of a match at most: its place, distance and counts, and what sorting and scoring take."""

_LEAST = 8_000_000
"""Bytes of matches that a chunk may have whatever the budget; below it there would be a pass over the gallery for next to
nothing."""


def cut_queries(matches: Matches, tile_rows: int, row_bytes: int, budget: int) -> list[tuple[int, int]]:
    """Chunks ``first:last`` of queries: as many whole tiles as ``budget`` bytes hold with their matches.

    Less than a tile only where its matches are too many for the budget and for ``_LEAST``; one query at the least.

    Args:
        tile_rows: queries of a tile.
        row_bytes: size of one query's embedding, packed.
    """
    starts, queries = matches.starts, len(matches.query_order)
    needed = starts * _MATCH_BYTES + np.arange(queries + 1) * row_bytes
    chunks = []
    first = 0
    while first < queries:
        last = int(np.searchsorted(needed, needed[first] + budget, side="right")) - 1
        if last < min(first + tile_rows, queries):
            most = starts[first] + max(budget, _LEAST) // _MATCH_BYTES
            last = int(np.searchsorted(starts, most, side="right")) - 1
            last = min(max(last, first + 1), first + tile_rows, queries)
        elif last < queries:
            last -= (last - first) % tile_rows
        chunks.append((first, last))
        first = last
    return chunks


class Chunk:
    """Queries ``first:last`` of ``matches.query_order``, counted from ``first``.

    Attributes:
        queries: (R,) positions of the queries. low, high, starts: as in ``Matches``, of these alone.
        owner, column: ``Matches.pairs``.
        gallery_size: columns in all. rows, columns: where each tile of queries and of the gallery begins.
        with_matches: by number of the gallery's tile and of the queries', the matches in that tile.
    """

    def __init__(self, matches: Matches, first: int, last: int, shape: TileShape) -> None:
        starts = matches.starts[first : last + 1]
        self.shape = shape
        self.queries = matches.query_order[first:last]
        self.low, self.high = matches.low[first:last], matches.high[first:last]
        self.starts = starts - starts[0]
        self.owner, self.column = matches.pairs(first, last)
        self.rows = range(0, last - first, shape.rows)
        self.gallery_size = len(matches.gallery_order)
        self.columns = range(0, self.gallery_size, shape.columns)
        key = self.column // shape.columns * len(self.rows) + self.owner // shape.rows
        by_tile = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[by_tile], prepend=-1, append=-1))
        self.with_matches: dict[int, dict[int, Ints]] = {}
        for a, b in zip(cuts[:-1], cuts[1:]):
            c, r = divmod(int(key[by_tile[a]]), len(self.rows))
            self.with_matches.setdefault(c, {})[r] = by_tile[a:b]
