"""Measure networks on query and gallery: each alone, and both together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.data._dataset import EvalImages, eval_loader
from reid_core.data._transforms import Transform, eval_transform
from reid_core.engine.post_processing import PostProcessing, part_of
from reid_core.engine.predict import predict
from reid_core.errors import DataError
from reid_core.metrics.embeddings import rank_metrics_from_embeddings
from reid_core.metrics.rank import rank_metrics
from reid_core.metrics.roc import PairRoc, pair_roc, pair_roc_from_embeddings
from reid_core.models._network import Network
from reid_core.types import RankResult, Sample, Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """How to measure: (height, width), mirror images or not, length of the CMC, images a batch, loader workers.

    ``margin`` and ``interpolation``: as ``eval_transform`` takes them. ``post``: what is done before ranking. ``roc``: the ROC of pairs as well.
    """

    image_size: tuple[int, int]
    flip: bool
    max_rank: int = 50
    batch_size: int = 64
    workers: int = 0
    post: PostProcessing = field(default_factory=PostProcessing)
    roc: bool = False
    margin: float = 1.0
    interpolation: str = "bicubic"

    def transform(self) -> Transform:
        """From an image to what the networks see."""
        return eval_transform(self.image_size, margin=self.margin, interpolation=self.interpolation)


@dataclass(frozen=True)
class Evaluation:
    """Results of each network in order, and of the pair where there are two or more; ROCs likewise, if asked for."""

    networks: tuple[RankResult, ...]
    ensemble: RankResult | None
    rocs: tuple[PairRoc, ...] = ()
    ensemble_roc: PairRoc | None = None

    def to_json(self) -> dict[str, Any]:
        """Network 0 at top level, all under ``networks``, the pair under ``ensemble``."""
        rocs = self.rocs or (None,) * len(self.networks)
        networks = [_body(result, roc) for result, roc in zip(self.networks, rocs)]
        body = dict(networks[0])
        body["networks"] = networks
        body["ensemble"] = None if self.ensemble is None else _body(self.ensemble, self.ensemble_roc)
        return body


def evaluate(
    networks: Sequence[Network],
    split: Split,
    options: EvaluationOptions,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    post_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Rank the gallery for every query, by the protocol of ``split``.

    Together, the networks rank by the mean of their distances, re-ranked ones where that was asked for: unlike the mean
    of their embeddings it needs no common width, and it ranked a little better wherever it was measured
    (``docs/results.md``).

    ``progress`` is called with (images seen, images), ``post_progress`` with what is done of the distances.

    Raises:
        DataError: there is no query or no gallery.
        UsageError: post-processing that is impossible with so few images; before any image is seen.
    """
    if not split.query or not split.gallery:
        raise DataError(
            f"{split.root}: {len(split.query)} query and {len(split.gallery)} gallery images; nothing can be ranked. "
            "Cut a query and a gallery from your data with: reid-core split reid SRC OUT"
        )
    options.post.check(len(split.query), len(split.gallery))
    samples = split.query + split.gallery
    dataset = EvalImages(split.root, samples, options.transform())
    loader = eval_loader(dataset, options.batch_size, options.workers)
    total = len(samples) * len(networks)
    embeddings: list[NDArray[np.float32]] = []
    for k, network in enumerate(networks):
        base = k * len(samples)
        tick = None if progress is None else (lambda done, base=base: progress(base + done, total))
        embeddings.append(predict(network, loader, device, options.flip, tick, logits=False).embedding)
    names = [sample.path for sample in samples]
    post, sides = options.post, []
    ticks = [part_of(post_progress, k, len(networks)) for k in range(len(networks))]
    for matrix, shown in zip(embeddings, ticks):
        sides.append(post.embeddings(*_halves(matrix, split, names), names, shown))
    if post.rerank or split.protocol == "cuhk03":  # what these need is a matrix
        return _from_distances(
            [post.distances(*side, names, shown) for side, shown in zip(sides, ticks)], split, options
        )
    results = tuple(
        _rank_embeddings(*side, split, options.max_rank, post.last_part(shown)) for side, shown in zip(sides, ticks)
    )
    rocs = tuple(_roc_embeddings(*side, split) for side in sides) if options.roc else ()
    if len(networks) < 2:
        return Evaluation(results, None, rocs)
    # Of unit vectors side by side the cosine is the mean of the cosines.
    query, gallery = (np.concatenate(rows, axis=1) for rows in zip(*sides))
    together = _roc_embeddings(query, gallery, split) if options.roc else None
    return Evaluation(results, _rank_embeddings(query, gallery, split, options.max_rank), rocs, together)


def _from_distances(distances: list[NDArray[np.float32]], split: Split, options: EvaluationOptions) -> Evaluation:
    results = tuple(_rank(matrix, split, options.max_rank) for matrix in distances)
    rocs = tuple(_roc(matrix, split) for matrix in distances) if options.roc else ()
    if len(distances) < 2:
        return Evaluation(results, None, rocs)
    both = np.mean(distances, axis=0)
    return Evaluation(results, _rank(both, split, options.max_rank), rocs, _roc(both, split) if options.roc else None)


def unmatched(split: Split) -> list[Sample]:
    """The queries that no gallery image can match by the protocol of ``split``."""
    cameras: dict[int, set[int]] = {}
    for sample in split.gallery:
        if sample.role == "identity":
            cameras.setdefault(sample.pid, set()).add(sample.camid)
    any_camera = split.protocol == "any-camera"
    return [q for q in split.query if not (cameras.get(q.pid, set()) - (set() if any_camera else {q.camid}))]


def _body(result: RankResult, roc: PairRoc | None) -> dict[str, Any]:
    return result.to_json() if roc is None else {**result.to_json(), "roc": roc.to_json()}


def _halves(
    embedding: NDArray[np.float32], split: Split, names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit rows of the queries, then the gallery's."""
    zero = np.flatnonzero(~embedding.any(axis=1))
    if len(zero):
        # A network may map an image to nothing. Pooled features are rarely negative, so this direction ranks last.
        log.warning("the embedding of %s is zero (%d such images)", names[zero[0]], len(zero))
        embedding = embedding.copy()
        embedding[zero] = -(embedding.shape[1] ** -0.5)
    return embedding[: len(split.query)], embedding[len(split.query) :]


def _rank_embeddings(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    split: Split,
    max_rank: int,
    progress: Callable[[int, int], None] | None = None,
) -> RankResult:
    q_pids, g_pids, q_camids, g_camids = _ids_of(split)
    return rank_metrics_from_embeddings(
        query,
        gallery,
        q_pids,
        g_pids,
        q_camids,
        g_camids,
        max_rank=max_rank,
        protocol=split.protocol,
        query_names=[sample.path for sample in split.query],
        gallery_names=[sample.path for sample in split.gallery],
        progress=progress,
    )


def _rank(distances: NDArray[np.float32], split: Split, max_rank: int) -> RankResult:
    return rank_metrics(distances, *_ids_of(split), max_rank=max_rank, protocol=split.protocol)


def _roc_embeddings(query: NDArray[np.float32], gallery: NDArray[np.float32], split: Split) -> PairRoc:
    return pair_roc_from_embeddings(query, gallery, *_ids_of(split), protocol=split.protocol)


def _roc(distances: NDArray[np.float32], split: Split) -> PairRoc:
    return pair_roc(distances, *_ids_of(split), protocol=split.protocol)


def _ids_of(split: Split) -> tuple[NDArray[np.int64], ...]:
    """Pids of queries and gallery, then cameras."""
    q_pids, q_camids = _ids(split.query)
    g_pids, g_camids = _ids(split.gallery)
    return q_pids, g_pids, q_camids, g_camids


def _ids(samples: Sequence[Sample]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Distractors match nobody and junk is dropped: -2 and -1, whatever the data set calls them.
    numbers = {"distractor": -2, "junk": -1}
    pids = np.array([numbers.get(s.role, s.pid) for s in samples], np.int64)
    return pids, np.array([s.camid for s in samples], np.int64)
