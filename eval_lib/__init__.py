"""Evaluation of retrieval (CMC, mAP, mINP) with NumPy alone: neither torch nor reid_core is imported.

The definition is ``eval_lib.reference``; ``eval_lib._rank`` is its compiled twin. The names and argument orders that
the field knows are ``evaluate_rank``, ``eval_market1501_wrap`` and ``eval_cuhk03_wrap``; ``rank_queries`` gives
everything per query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_lib import _checks
from eval_lib._checks import NoMatchError, NotANumberError, NotFiniteError
from eval_lib._native import build_record, why_missing
from eval_lib._queries import QueryRanks, rank_queries
from eval_lib.single_shot import single_shot_cmc

__all__ = [
    "NoMatchError",
    "NotANumberError",
    "NotFiniteError",
    "QueryRanks",
    "build_record",
    "eval_cuhk03_wrap",
    "eval_market1501_wrap",
    "evaluate_rank",
    "rank_queries",
    "single_shot_cmc",
    "why_missing",
]


def eval_market1501_wrap(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    max_rank: int,
) -> tuple[NDArray[np.float64], float]:
    """CMC and mAP by the single-query rule of Market-1501, Duke and MSMT17.

    Gallery images with pid -1, and those with both the pid and the camera of the query, are left out. At equal distance
    non-matches rank first. Queries without a match are skipped.

    Args:
        distmat: (Q, G) float, small is near. Any strides, read-only or not.
        q_pids, g_pids: (Q,) and (G,) integers. q_camids, g_camids: cameras, likewise.
        max_rank: length of the CMC, at least 1.

    Returns:
        ``cmc``: (max_rank,) float64, fractions; beyond the end of a short gallery the last value goes on.
        ``mAP``: mean average precision, step rule.

    Raises:
        NotFiniteError: a distance is NaN or infinite; the message names row and column.
        NoMatchError: no query has a match.
        ValueError, TypeError: lengths that do not fit, or numbers of a wrong kind.
    """
    size = _checks.max_rank(max_rank)  # before anything is computed
    ranks = rank_queries(distmat, q_pids, g_pids, q_camids, g_camids)
    return ranks.cmc(size), ranks.mAP


def eval_cuhk03_wrap(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    max_rank: int,
    *,
    seed: int = 0,
    repeats: int = 100,
) -> tuple[NDArray[np.float64], float]:
    """CMC and mAP by the rule of CUHK03's first protocol, "single gallery shot".

    The CMC is that of a gallery with one random image an identity, averaged over ``repeats`` draws; the mAP is that of
    the full gallery. Same seed, same numbers, whatever the order of the gallery.

    Args:
        distmat, q_pids, g_pids, q_camids, g_camids, max_rank: as in ``eval_market1501_wrap``.
        seed: of the draws, not negative.
        repeats: number of draws a query, at least 1.

    Returns:
        As ``eval_market1501_wrap``.

    Raises:
        As ``eval_market1501_wrap``.
    """
    _checks.max_rank(max_rank)
    _checks.count("repeats", repeats)
    _checks.seed(seed)
    ranks = rank_queries(distmat, q_pids, g_pids, q_camids, g_camids)
    cmc = single_shot_cmc(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, seed=seed, repeats=repeats)
    return cmc, ranks.mAP


def evaluate_rank(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    max_rank: int = 50,
    use_metric_cuhk03: bool = False,
    *,
    seed: int = 0,
    repeats: int = 100,
) -> tuple[NDArray[np.float64], float]:
    """CMC and mAP by the rule of Market-1501 or, if asked for, of CUHK03's first protocol; see those functions.

    ``seed`` and ``repeats`` are those of CUHK03's draws.
    """
    if use_metric_cuhk03:
        return eval_cuhk03_wrap(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, seed=seed, repeats=repeats)
    return eval_market1501_wrap(distmat, q_pids, g_pids, q_camids, g_camids, max_rank)
