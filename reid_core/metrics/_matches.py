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

    Attributes:
        query_order: (Q,) positions of the queries, by identity.
        gallery_order: (K,) positions of the gallery images without junk: those of the queries' identities, by identity,
            then all others as they come.
        low, high: (Q,) in the order of ``query_order``: the query's identity is ``gallery_order[low:high]``.
        owner: (M,) for every match, its query's place in ``query_order``, ascending.
        column: (M,) for every match, its place in ``gallery_order``, ascending for each query.
        num_dropped: (Q,) in the order of ``query_order``: images left out for the query's identity and camera.
        num_junk: gallery images with pid -1.
    """

    query_order: Ints
    gallery_order: Ints
    low: Ints
    high: Ints
    owner: Ints
    column: Ints
    num_dropped: Ints
    num_junk: int

    @property
    def starts(self) -> Ints:
        """(Q + 1,) where each query's matches begin in ``owner`` and ``column``."""
        return np.searchsorted(self.owner, np.arange(len(self.query_order) + 1)).astype(np.int64)


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
    wanted = wanted[np.argsort(g_pids[wanted], kind="stable")]
    gallery_order = np.concatenate([wanted, np.flatnonzero(~asked & ~junk)])

    pids = q_pids[query_order]
    low = np.searchsorted(g_pids[wanted], pids, side="left")
    high = np.searchsorted(g_pids[wanted], pids, side="right")
    counts = high - low
    owner = np.repeat(np.arange(len(pids)), counts)
    # The n-th candidate of all, less the candidates of earlier queries, counts from the start of its own range.
    column = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    same_view = g_camids[gallery_order[column]] == q_camids[query_order][owner]
    if not drop_same_camera:
        same_view[:] = False
    num_dropped = np.bincount(owner[same_view], minlength=len(pids))
    return Matches(
        query_order, gallery_order, low, high, owner[~same_view], column[~same_view], num_dropped, int(junk.sum())
    )
