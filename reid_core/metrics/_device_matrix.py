"""Ranking from a matrix of distances that lies on a CUDA device: it is read there in tiles, and never moved."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from eval_lib import QueryRanks, _checks
from reid_core.errors import NumericalError, UsageError
from reid_core.metrics import _device_tiles
from reid_core.metrics._chunks import Chunk
from reid_core.metrics._counting import Counts, query_ranks, scores, sort_matches
from reid_core.metrics._device_counts import DeviceCounts, counting_backend, there
from reid_core.metrics._matches import find_matches
from reid_core.metrics._tiles import TileShape
from reid_core.metrics.rank import refuse_no_match

_EXACT_IN_FLOAT32 = (torch.float16, torch.bfloat16, torch.float32, torch.bool, torch.uint8, torch.int8, torch.int16)
_EXACT_IN_FLOAT64 = (torch.float64, torch.int32, torch.int64)


def rank_matrix(
    distmat: Tensor, ids: tuple[Any, Any, Any, Any], drop_same_camera: bool, backend: str
) -> tuple[QueryRanks, dict[str, Any]]:
    """The measures of every query, and what to note of who made them.

    The columns of a tile are gathered in the order of ``Matches``, so that a query's own identity is one range of them:
    the counting is that of the route from embeddings.

    Args:
        distmat: (Q, G), small is near; any strides.
        ids: q_pids, g_pids, q_camids, g_camids.
        drop_same_camera: leave out images with the pid and the camera of the query.
        backend: ``auto``, ``native`` or ``python``.

    Raises:
        NumericalError: a distance is NaN or infinite; row and column are named.
        DataError: no query has a match.
        UsageError: shapes, types or lengths that do not fit, a backend that is not built.
    """
    device = distmat.device
    try:
        backend = counting_backend(backend, device)
        real = _real_type(distmat)
        rows, columns = distmat.shape
        arrays = (
            _checks.identities("q_pids", ids[0], rows, "rows (queries) of distmat"),
            _checks.identities("g_pids", ids[1], columns, "columns (gallery images) of distmat"),
            _checks.identities("q_camids", ids[2], rows, "rows (queries) of distmat"),
            _checks.identities("g_camids", ids[3], columns, "columns (gallery images) of distmat"),
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(str(error)) from error
    with torch.no_grad():
        distmat = distmat.detach()
        _refuse_not_finite(distmat)
        matches = find_matches(*arrays, drop_same_camera=drop_same_camera)
        refuse_no_match(matches.total, arrays, matches.num_junk, int(matches.num_dropped.sum()))
        queries, gallery = there(matches.query_order, device), there(matches.gallery_order, device)
        tile = _device_tiles.TILE
        chunk = Chunk(matches, 0, rows, TileShape(tile, tile))
        found = distmat[queries[there(chunk.owner, device)], gallery[there(chunk.column, device)]].to(real)
        counts = DeviceCounts(chunk, sort_matches(found.cpu().numpy(), chunk.owner), device, backend)
        for column in chunk.columns:
            for row in chunk.rows:
                part = distmat[queries[row : row + tile, None], gallery[None, column : column + tile]]
                counts.add_tile(part.to(real), row, column)
        whole = Counts(counts.host_thresholds, matches.starts)
        whole.between, whole.tied = counts.between.cpu().numpy(), counts.tied.cpu().numpy()
    return query_ranks([scores(whole)], matches, backend), {"backend": backend, "device": str(device)}


def _real_type(distmat: Tensor) -> torch.dtype:
    """The type that distances are compared in: their values fit without rounding.

    Raises:
        TypeError, ValueError: the matrix is not one of distances.
    """
    shape = tuple(distmat.shape)
    if distmat.ndim != 2:
        raise ValueError(f"distmat must be (num_query, num_gallery), got shape {shape}")
    if shape[0] == 0:
        raise ValueError(f"distmat has no query: its shape is {shape}")
    if distmat.dtype in _EXACT_IN_FLOAT32:
        return torch.float32
    if distmat.dtype not in _EXACT_IN_FLOAT64:
        raise TypeError(f"distmat must be float16, bfloat16, float32 or float64, or integers, got {distmat.dtype}")
    if distmat.dtype == torch.int64 and distmat.numel():
        least, most = (int(value) for value in distmat.aminmax())
        if most > 2**53 or least < -(2**53):
            raise ValueError("distmat holds integers beyond 2**53, which float64 cannot tell apart; scale them down")
    return torch.float64


def _refuse_not_finite(distmat: Tensor) -> None:
    """Refuse NaN and infinity anywhere, in rows and columns that would not be looked at, too."""
    if not distmat.dtype.is_floating_point:
        return
    size = max(1, _device_tiles.TILE**2 // max(1, distmat.shape[1]))
    starts = range(0, len(distmat), size)
    fine = torch.stack([distmat[a : a + size].isfinite().all() for a in starts])
    if bool(fine.all()):
        return
    first = starts[int((~fine).nonzero()[0, 0])]
    row, column = (int(place) for place in (~distmat[first : first + size].isfinite()).nonzero()[0])
    row, value = first + row, float(distmat[first + row, column])
    what = "NaN" if math.isnan(value) else "infinite" if value > 0 else "minus infinity"
    raise NumericalError(
        f"distmat[{row}, {column}] is {what} (query {row}, gallery image {column}): "
        "look for NaN and for very large numbers in the embeddings of these two images"
    )
