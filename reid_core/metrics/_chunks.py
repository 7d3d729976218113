"""Some queries against the whole gallery, as tiles: which there are, and in which of them matches lie."""

from __future__ import annotations

import numpy as np

from reid_core.metrics._matches import Ints, Matches
from reid_core.metrics._tiles import TileShape

_MATCH_BYTES = 40
"""A match's distance, counts, owner and place, and what sorting them takes."""


def cut_queries(matches: Matches, tile_rows: int, row_bytes: int, budget: int) -> list[tuple[int, int]]:
    """Chunks ``first:last`` of whole tiles of queries, as many as ``budget`` bytes hold with their matches; one at the least.

    Args:
        tile_rows: queries of a tile.
        row_bytes: size of one query's embedding, packed.
    """
    starts, queries = matches.starts, len(matches.query_order)
    chunks = []
    first = 0
    while first < queries:
        last = first + tile_rows
        while last < queries:
            more = last + tile_rows
            needed = (more - first) * row_bytes + int(starts[min(more, queries)] - starts[first]) * _MATCH_BYTES
            if needed > budget:
                break
            last = more
        chunks.append((first, min(last, queries)))
        first = last
    return chunks


class Chunk:
    """Queries ``first:last`` of ``matches.query_order``, counted from ``first``.

    Attributes:
        queries: (R,) positions of the queries. low, high, owner, column, starts: as in ``Matches``, of these alone.
        own: where the chunk's matches stand among all.
        gallery_size: columns in all. rows, columns: where each tile of queries and of the gallery begins.
        with_matches: by number of the gallery's tile and of the queries', the matches in that tile.
    """

    def __init__(self, matches: Matches, first: int, last: int, shape: TileShape) -> None:
        starts = matches.starts[first : last + 1]
        self.shape = shape
        self.own = slice(int(starts[0]), int(starts[-1]))
        self.queries = matches.query_order[first:last]
        self.low, self.high = matches.low[first:last], matches.high[first:last]
        self.starts = starts - starts[0]
        self.owner = matches.owner[self.own] - first
        self.column = matches.column[self.own]
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
