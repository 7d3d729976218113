"""CMC of CUHK03's first protocol: one random gallery image an identity, averaged over many draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_lib import _checks, reference


def single_shot_cmc(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    max_rank: int,
    *,
    drop_same_camera: bool = True,
    seed: int = 0,
    repeats: int = 100,
) -> NDArray[np.float64]:
    """Mean CMC over queries with a match and ``repeats`` draws of one image an identity.

    Junk and same-camera images are left out first, as in ``eval_lib.reference``. Then, for every query and draw, each
    gallery identity keeps one of its images, all equally likely, and the query's own one stands behind every other at
    the same or a smaller distance. Draw r of identity p for query i takes the image at position floor(u n) among the
    identity's n images sorted by distance, where u is entry (p, r) of the uniform numbers seeded with (seed, i): the
    result depends on the seed and the distances, never on the order of the gallery.

    Args:
        distmat, q_pids, g_pids, q_camids, g_camids: as in ``rank_queries``.
        max_rank: length of the CMC.
        drop_same_camera: leave out images with both the pid and the camera of the query.
        seed: not negative. The generator is local.
        repeats: draws a query.

    Returns:
        (max_rank,) float64, never falling.

    Raises:
        NotFiniteError, NoMatchError, ValueError, TypeError: as ``rank_queries``.

    Reference: W. Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification", CVPR 2014,
    section 5 (single-shot).
    """
    table = _checks.distances(distmat)
    rows, columns = table.shape
    query_pids = _checks.identities("q_pids", q_pids, rows, "rows (queries) of distmat")
    gallery_pids = _checks.identities("g_pids", g_pids, columns, "columns (gallery images) of distmat")
    query_camids = _checks.identities("q_camids", q_camids, rows, "rows (queries) of distmat")
    gallery_camids = _checks.identities("g_camids", g_camids, columns, "columns (gallery images) of distmat")
    size = _checks.max_rank(max_rank)
    draws = _checks.count("repeats", repeats)
    first_seed = _checks.seed(seed)

    hits = np.zeros(size, dtype=np.int64)
    num_valid = 0
    for i in range(rows):
        column = reference.first_not_finite(table[i])
        if column >= 0:
            raise _checks.NotFiniteError(i, column, float(table[i, column]))
        pid = query_pids[i]
        kept = gallery_pids != _checks.JUNK_PID
        if drop_same_camera:
            kept &= (gallery_pids != pid) | (gallery_camids != query_camids[i])
        kept_pids = gallery_pids[kept]
        if not (kept_pids == pid).any():
            continue
        num_valid += 1
        uniform = np.random.default_rng([first_seed, i])
        first = _first_hits(table[i][kept], kept_pids, int(pid), uniform, draws)
        hits += np.bincount(first[first < size], minlength=size)
    if num_valid == 0:
        raise _checks.NoMatchError(f"none of the {rows} queries has a match among the {columns} gallery images")
    return np.cumsum(hits) / (num_valid * draws)


def _first_hits(
    distances: NDArray[np.generic], pids: NDArray[np.int64], pid: int, uniform: np.random.Generator, draws: int
) -> NDArray[np.int64]:
    """(draws,) 0-based ranks of the drawn match among the drawn images of all identities."""
    order = np.lexsort((distances, pids))  # by identity, nearest first
    names, start, count = np.unique(pids[order], return_index=True, return_counts=True)
    offset = (uniform.random((len(names), draws)) * count[:, None]).astype(np.int64)
    drawn = distances[order][start[:, None] + offset]  # (identities, draws)
    own = int(np.searchsorted(names, pid))
    not_farther = (drawn <= drawn[own]).sum(axis=0)
    return np.asarray(not_farther - 1, dtype=np.int64)  # less the match itself
