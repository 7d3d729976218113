"""Ranks a gallery for every query and returns all the figures as one checked value."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import eval_lib
from eval_lib import _checks
from eval_lib._queries import _no_match_message as no_match_message
from reid_core.errors import DataError, NumericalError, UsageError
from reid_core.metrics._tensors import as_array, device_of
from reid_core.plugins import closest
from reid_core.types import RankResult

logger = logging.getLogger(__name__)

PROTOCOLS = ("market1501", "cuhk03", "any-camera")

_MANY_TIES = 0.01


def rank_metrics(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    *,
    max_rank: int = 50,
    protocol: str = "market1501",
    seed: int = 0,
    repeats: int = 100,
    backend: str = "auto",
) -> RankResult:
    """CMC, mAP (step and trapezoid), mINP and everything per query; the rules stand in ``eval_lib.reference``.

    Gallery images with pid -1 are junk and left out. At equal distance non-matches rank first; more than 1 % of such
    matches is worth a warning in the log. Queries without a match are counted, and count nowhere else.

    Args:
        distmat: (Q, G) float, small is near; any strides. A tensor on a CUDA device is ranked there, and not moved.
        q_pids, g_pids, q_camids, g_camids: (Q,) and (G,) integers.
        max_rank: length of the CMC; beyond a short gallery its last value goes on.
        protocol: ``market1501`` leaves out gallery images with the identity and the camera of the query;
            ``cuhk03`` does too, and its CMC is the mean over draws of one image an identity (AP, INP and first hit are
            those of the full gallery); ``any-camera`` looks at no camera.
        seed, repeats: of the draws of ``cuhk03``.
        backend: ``auto``, ``native`` or ``python``; results are the same.

    Returns:
        RankResult; ``notes`` names the backend, with ``cuhk03`` seed and repeats, and the device if it was not the CPU.

    Raises:
        NumericalError: a distance is NaN or infinite; row and column are named.
        DataError: no query has a match.
        UsageError: an unknown protocol or backend, lengths that do not fit, a backend that is not built.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(
            f"unknown protocol {protocol!r}: known are {', '.join(PROTOCOLS)}.{closest(protocol, PROTOCOLS)}"
        )
    drop_same_camera = protocol != "any-camera"
    try:
        _checks.max_rank(max_rank)
        if protocol == "cuhk03":
            _checks.seed(seed)
            _checks.count("repeats", repeats)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    q_pids, g_pids, q_camids, g_camids = (as_array(values) for values in (q_pids, g_pids, q_camids, g_camids))
    if device_of(distmat=distmat) is not None:
        return _on_device(distmat, (q_pids, g_pids, q_camids, g_camids), max_rank, protocol, backend)
    table = (as_array(distmat), q_pids, g_pids, q_camids, g_camids)
    try:
        ranks = eval_lib.rank_queries(*table, drop_same_camera=drop_same_camera, backend=backend)
        if protocol == "cuhk03":
            cmc = eval_lib.single_shot_cmc(*table, max_rank, seed=seed, repeats=repeats)
        else:
            cmc = ranks.cmc(max_rank)
    except eval_lib.NotFiniteError as error:
        raise NumericalError(str(error)) from error
    except eval_lib.NoMatchError as error:
        raise DataError(str(error)) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(str(error)) from error
    notes: dict[str, Any] = {"backend": ranks.backend}
    if protocol == "cuhk03":
        notes |= {"seed": int(seed), "repeats": int(repeats)}
    return as_rank_result(ranks, cmc, protocol, notes)


def _on_device(distmat: Any, ids: tuple[Any, ...], max_rank: int, protocol: str, backend: str) -> RankResult:
    """``rank_metrics`` of a tensor, where it lies."""
    from reid_core.metrics._device_matrix import rank_matrix

    if protocol == "cuhk03":
        raise UsageError("the draws of cuhk03 are made on the CPU: give distmat.cpu(), or use protocol market1501")
    ranks, notes = rank_matrix(distmat, ids, protocol != "any-camera", backend)
    return as_rank_result(ranks, ranks.cmc(max_rank), protocol, notes)


def as_rank_result(
    ranks: eval_lib.QueryRanks, cmc: NDArray[np.float64], protocol: str, notes: dict[str, Any]
) -> RankResult:
    """The value that every route ends in; many ties are worth a warning in the log."""
    if ranks.tie_share > _MANY_TIES:
        logger.warning(
            "%.1f %% of the matches lie at exactly the distance of a non-match and are ranked behind it: "
            "is the embedding collapsed, or are images in the data twice?",
            100 * ranks.tie_share,
        )
    return RankResult(
        cmc=cmc,
        mAP=ranks.mAP,
        mAP_trapezoid=ranks.mean(ranks.ap_trapezoid),
        mINP=ranks.mean(ranks.inp),
        ap=ranks.ap,
        ap_trapezoid=ranks.ap_trapezoid,
        inp=ranks.inp,
        first_hit=ranks.first_hit,
        num_queries=len(ranks.first_hit),
        num_valid_queries=int(ranks.valid.sum()),
        num_junk=ranks.num_junk,
        num_dropped=int(ranks.num_dropped.sum()),
        protocol=protocol,
        tie_share=ranks.tie_share,
        notes=notes,
    )


def refuse_no_match(matches: int, ids: tuple[NDArray[np.int64], ...], junk: int, dropped: int) -> None:
    """Refuse a ranking in which no query has a match; ``ids`` are q_pids, g_pids, q_camids, g_camids.

    Raises:
        DataError: ``matches`` is 0.
    """
    if matches == 0:
        raise DataError(no_match_message(len(ids[0]), len(ids[1]), junk, dropped, ids[0], ids[1]))
