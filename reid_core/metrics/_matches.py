"""Which gallery images match which query: known from the identities alone, before any distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

JUNK_PID = -1

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Queries and gallery put in an order in which the matches of neighbouring queries are neighbours.

    Matches themselves are made for some queries at a time (``pairs``): of all there may be more than memory holds.

    Attributes:
        query_order: (Q,) positions of the queries, by identity.
        gallery_order: (K,) positions of the gallery images without junk: those of the queries' identities, by identity and
            camera, then all others as they come.
        low, high: (Q,) in the order of ``query_order``: the query's identity is ``gallery_order[low:high]``.
        drop_low, drop_high: (Q,) likewise; of these ``drop_low:drop_high`` are left out for their camera.
        starts: (Q + 1,) matches of the queries before.
        num_junk: gallery images with pid -1.
    """

    query_order: Ints
    gallery_order: Ints
    low: Ints
    high: Ints
    drop_low: Ints
    drop_high: Ints
    starts: Ints
    num_junk: int

    @property
    def total(self) -> int:
        """Matches of all queries."""
        return int(self.starts[-1])

    @property
    def num_dropped(self) -> Ints:
        """(Q,) in the order of ``query_order``: images left out for the query's identity and camera."""
        return self.drop_high - self.drop_low

    def pairs(self, first: int, last: int) -> tuple[Ints, Ints]:
        """The M matches of queries ``first:last`` of ``query_order``.

        Returns:
            (M,) the query's place, counted from ``first``, ascending; (M,) the image's place in ``gallery_order``, ascending
            for each query.
        """
        starts = self.starts[first : last + 1] - self.starts[first]
        owner = np.repeat(np.arange(last - first), np.diff(starts))
        column = np.arange(len(owner)) + (self.low[first:last] - starts[:-1])[owner]
        column += np.where(column >= self.drop_low[first:last][owner], self.num_dropped[first:last][owner], 0)
        return owner, column


def find_matches(q_pids: Ints, g_pids: Ints, q_camids: Ints, g_camids: Ints, drop_same_camera: bool) -> Matches:
    """The matches of all queries by the rules of ``eval_lib.reference``.

    Args:
        q_pids, q_camids: (Q,). g_pids, g_camids: (G,).
        drop_same_camera: leave out images with both the pid and the camera of the query.
    """
    query_order = np.argsort(q_pids, kind="stable")
    junk = g_pids == JUNK_PID
    asked = np.isin(g_pids, q_pids) & ~junk
    wanted = np.flatnonzero(asked)
    wanted = wanted[np.lexsort((g_camids[wanted], g_pids[wanted]))]
    gallery_order = np.concatenate([wanted, np.flatnonzero(~asked & ~junk)])

    pids, camids = q_pids[query_order], q_camids[query_order]
    low, high = (np.searchsorted(g_pids[wanted], pids, side) for side in ("left", "right"))
    drop_low = drop_high = high
    if drop_same_camera:
        # Identity and camera as one number that rises as the gallery does.
        names, identity = np.unique(g_pids[wanted], return_inverse=True)
        cameras, camera = np.unique(np.concatenate([g_camids[wanted], camids]), return_inverse=True)
        place = identity * len(cameras) + camera[: len(wanted)]
        own = np.searchsorted(names, pids) * len(cameras) + camera[len(wanted) :]
        drop_low, drop_high = (np.searchsorted(place, own, side) for side in ("left", "right"))
        # A query whose identity the gallery lacks has nothing to drop.
        drop_low, drop_high = (np.where(low < high, ends, high) for ends in (drop_low, drop_high))
    numbers = (high - low) - (drop_high - drop_low)
    starts = np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)
    return Matches(query_order, gallery_order, low, high, drop_low, drop_high, starts, int(junk.sum()))
