"""Rank a gallery and measure."""

from __future__ import annotations

from typing import Any

from eval_lib import rank_queries
from reid_core.types import RankResult


def rank_metrics(
    d: Any, qp: Any, gp: Any, qc: Any, gc: Any, *, max_rank: int = 50, protocol: str = "market1501"
) -> RankResult:
    r = rank_queries(d, qp, gp, qc, gc, drop_same_camera=protocol != "any-camera")
    return RankResult(
        r.cmc(max_rank),
        r.mAP,
        r.mean(r.ap_trapezoid),
        r.mean(r.inp),
        r.ap.copy(),
        r.ap_trapezoid.copy(),
        r.inp.copy(),
        r.first_hit.copy(),
        len(qp),
        int(r.valid.sum()),
        r.num_junk,
        int(r.num_dropped.sum()),
        protocol,
        r.tie_share,
    )
