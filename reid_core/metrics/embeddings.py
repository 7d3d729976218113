"""Ranking straight from embeddings: products fused with counting, so that the matrix of distances never exists."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eval_lib import _checks, _native
from reid_core.errors import UsageError
from reid_core.metrics import _host
from reid_core.metrics._counting import query_ranks
from reid_core.metrics._lengths import Metric, check_widths
from reid_core.metrics._matches import find_matches
from reid_core.metrics._shards import Shards
from reid_core.metrics._tensors import as_array, device_of
from reid_core.metrics.rank import as_rank_result, refuse_no_match
from reid_core.types import RankResult

Progress = Callable[[int, int], None]


def rank_metrics_from_embeddings(
    query: ArrayLike,
    gallery: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    metric: Metric = "cosine",
    max_rank: int = 50,
    memory: str | int = "256MB",
    *,
    protocol: str = "market1501",
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    backend: str = "auto",
) -> RankResult:
    """What ``rank_metrics(distance_matrix(query, gallery, metric), ...)`` gives, to the same bits, without the matrix.

    CPU tensors of torch are taken as the arrays they are. For tensors on a CUDA device the products and the counting run
    there, in tiles of their own size: the distances differ from those of the CPU by the rounding of another product.

    Where ``torch.distributed`` has a process group, every process makes this call with the same inputs (memory maps, best),
    does its share of the gallery and gets the whole result: the same bits as from one process.

    Args:
        query: (Q, D) real. gallery: (G, D) real, a memory map too; or tensors, both on one device.
        q_pids, q_camids: (Q,) integers. g_pids, g_camids: (G,) integers; pid -1 is junk.
        metric: ``cosine`` or ``euclidean``.
        max_rank: length of the CMC.
        memory: what may be used beside the inputs, as a number of bytes or as in ``256MB``. Less memory means more passes
            over the gallery, never other figures. What is used always is a tile of queries (768 of them; 2,048 on a GPU)
            with 8 MB of matches, and for each thread a tile of the gallery and one of distances, for ``euclidean`` in
            float64.
        protocol: ``market1501`` or ``any-camera``.
        query_names, gallery_names: image paths, for the messages.
        threads: products under way at a time, each made by one thread; by default one for each processor. Not on a GPU.
        progress: called with (tiles done, all of them).
        backend: of the counting: ``auto``, ``native`` or ``python``; results are the same.

    Returns:
        RankResult, as ``rank_metrics``; on a GPU ``notes`` names the device.

    Raises:
        NumericalError: an embedding has a NaN or an infinite number, or is a row of zeros, or a distance is too large for
            float32; rows and images are named.
        DataError: no query has a match.
        UsageError: shapes, types or numbers that do not fit.
    """
    there: Any = _host
    with Shards.here().together() as facts:
        if protocol not in ("market1501", "any-camera"):
            raise UsageError(
                f"from embeddings the protocols are market1501 and any-camera, got {protocol!r}; for cuhk03 use "
                "rank_metrics(distance_matrix(query, gallery), ..., protocol='cuhk03')"
            )
        q_pids, g_pids, q_camids, g_camids = (as_array(values) for values in (q_pids, g_pids, q_camids, g_camids))
        if device_of(query=query, gallery=gallery) is not None:
            from reid_core.metrics import _device

            there = _device
        sides = (
            there.embeddings("query", query, metric, query_names),
            there.embeddings("gallery", gallery, metric, gallery_names),
        )
        check_widths(*sides)
        budget = bytes_of(memory)
        try:
            counter = there.counter(backend, sides)
            _checks.max_rank(max_rank)
            workers = _checks.count("threads", _native.usable_processors() if threads is None else threads)
            ids = (
                _checks.identities("q_pids", q_pids, len(sides[0]), "query embeddings"),
                _checks.identities("g_pids", g_pids, len(sides[1]), "gallery embeddings"),
                _checks.identities("q_camids", q_camids, len(sides[0]), "query embeddings"),
                _checks.identities("g_camids", g_camids, len(sides[1]), "gallery embeddings"),
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(str(error)) from error
        matches = find_matches(*ids, drop_same_camera=protocol == "market1501")
        refuse_no_match(matches.total, ids, matches.num_junk, int(matches.num_dropped.sum()))
        # With other pieces of work the processes would wait for each other's sums, and for ever.
        facts |= {"memory": budget, "protocol": protocol, "metric": metric, "numbers of an embedding": sides[0].width}
        facts |= {"identities and cameras": zlib.crc32(np.concatenate(ids).tobytes())}
    parts, notes = there.count_embeddings(sides, matches, budget, workers, counter, progress)
    ranks = query_ranks(parts, matches, notes["backend"])
    return as_rank_result(ranks, ranks.cmc(max_rank), protocol, notes)


def bytes_of(memory: str | int) -> int:
    """``256MB`` (10^6), ``256MiB`` (2^20), ``2GB`` or a number of bytes.

    Raises:
        UsageError: anything else.
    """
    if isinstance(memory, (int, np.integer)) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d+)?)\s*([kmg]?)(i?)b\s*", str(memory), re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise UsageError(f"memory must be a number of bytes or a text like 256MB, got {memory!r}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmg".index(found[2].lower() or " "))
