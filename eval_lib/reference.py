"""The definition of every ranking measure: plain, slow, one query at a time. Compiled code must agree with it.

1. Gallery images with pid -1 are junk and are left out; so are those with the pid and the camera of the query.
2. The others are ranked by distance, ascending. At equal distance non-matches come first, so that the order of the
   gallery never matters and an embedding that maps everything to one point scores nothing.
3. With the matches at 0-based ranks i_0 < i_1 < ... < i_(R-1):
   AP (step) = mean of (j+1) / (i_j+1);
   AP (trapezoid) = mean of ((j+1) / (i_j+1) + old_j) / 2 with old_j = j / i_j, or 1 where i_j = 0;
   INP = R / (i_(R-1) + 1); the CMC at rank k is 1 if i_0 < k.
4. A query without a match counts nowhere.

Reference: L. Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, for the protocol and, in its
published tools, the trapezoid rule; M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook",
TPAMI 2022, section 4.2, for INP. Differs from the published tools in the rule for equal distances, where they depend on
an unstable sort, and in the CMC of short galleries, which here never falls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval_lib._checks import JUNK_PID


class QueryRank(NamedTuple):
    """Measures of one query; without a match ``first_hit`` is -1 and the scores are NaN.

    Attributes:
        first_hit: 0-based rank of the first match.
        num_matches: R, matches that were kept.
        num_tied: matches at exactly the distance of some kept non-match.
        num_dropped: gallery images left out for the query's own pid and camera.
        ap, ap_trapezoid, inp: fractions, high is good.
    """

    first_hit: int
    num_matches: int
    num_tied: int
    num_dropped: int
    ap: float
    ap_trapezoid: float
    inp: float


def first_not_finite(distances: NDArray[Any]) -> int:
    """Position of the first NaN or infinity in (G,) distances, or -1."""
    where = np.flatnonzero(~np.isfinite(distances))
    return int(where[0]) if len(where) else -1


def rank_query(
    distances: NDArray[Any],
    g_pids: NDArray[np.int64],
    g_camids: NDArray[np.int64],
    pid: int,
    camid: int,
    drop_same_camera: bool = True,
) -> QueryRank:
    """Rank one query against (G,) distances, all of them finite.

    Args:
        distances: (G,) real. g_pids, g_camids: (G,).
        pid, camid: of the query; a query with pid -1 has no match.
        drop_same_camera: leave out images with the query's pid and camera.
    """
    not_junk = g_pids != JUNK_PID
    same_view = not_junk & (g_pids == pid) & (g_camids == camid) & drop_same_camera
    kept = not_junk & ~same_view
    num_dropped = int(same_view.sum())
    distance = distances[kept]
    is_match = g_pids[kept] == pid

    order = np.lexsort((is_match, distance))  # by distance, and at equal distance False before True
    hits = np.flatnonzero(is_match[order])
    if len(hits) == 0:
        return QueryRank(-1, 0, 0, num_dropped, float("nan"), float("nan"), float("nan"))

    total = len(hits)
    ap = 0.0
    ap_trapezoid = 0.0
    for j, i in enumerate(hits.tolist()):
        precision = (j + 1) / (i + 1)
        old_precision = 1.0 if i == 0 else j / i
        ap += precision
        ap_trapezoid += 0.5 * (precision + old_precision)
    tied = np.isin(distance[is_match], distance[~is_match])
    return QueryRank(
        first_hit=int(hits[0]),
        num_matches=total,
        num_tied=int(tied.sum()),
        num_dropped=num_dropped,
        ap=ap / total,
        ap_trapezoid=ap_trapezoid / total,
        inp=total / (int(hits[-1]) + 1),
    )
