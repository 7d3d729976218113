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
from reid_core.data._transforms import eval_transform
from reid_core.engine.post_processing import PostProcessing, part_of
from reid_core.engine.predict import predict
from reid_core.errors import DataError
from reid_core.metrics.rank import rank_metrics
from reid_core.metrics.roc import PairRoc, pair_roc
from reid_core.models._network import Network
from reid_core.types import RankResult, Sample, Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """How to measure: (height, width), mirror images or not, length of the CMC, images a batch, loader workers.

    ``post``: what is done before ranking. ``roc``: the ROC of pairs as well.
    """

    image_size: tuple[int, int]
    flip: bool
    max_rank: int = 50
    batch_size: int = 64
    workers: int = 0
    post: PostProcessing = field(default_factory=PostProcessing)
    roc: bool = False


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

    Together, the networks rank by the mean of their distances, re-ranked ones where that was asked for. The mean of
    their embeddings would be another thing: networks that start differently spread identities over unrelated axes, and
    their sum ranks worse than either.

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
    dataset = EvalImages(split.root, samples, eval_transform(options.image_size))
    loader = eval_loader(dataset, options.batch_size, options.workers)
    total = len(samples) * len(networks)
    embeddings: list[NDArray[np.float32]] = []
    for k, network in enumerate(networks):
        base = k * len(samples)
        tick = None if progress is None else (lambda done, base=base: progress(base + done, total))
        embeddings.append(predict(network, loader, device, options.flip, tick).embedding)
    distances = [
        _distances(matrix, split, samples, options.post, part_of(post_progress, k, len(networks)))
        for k, matrix in enumerate(embeddings)
    ]
    results = tuple(_rank(matrix, split, options.max_rank) for matrix in distances)
    rocs = tuple(_roc(matrix, split) for matrix in distances) if options.roc else ()
    if len(networks) < 2:
        return Evaluation(results, None, rocs)
    both = np.mean(distances, axis=0)
    return Evaluation(results, _rank(both, split, options.max_rank), rocs, _roc(both, split) if options.roc else None)


def _body(result: RankResult, roc: PairRoc | None) -> dict[str, Any]:
    return result.to_json() if roc is None else {**result.to_json(), "roc": roc.to_json()}


def _distances(
    embedding: NDArray[np.float32],
    split: Split,
    samples: Sequence[Sample],
    post: PostProcessing,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """(Q, G) distances; ``embedding`` holds the queries' rows, then the gallery's."""
    names = [sample.path for sample in samples]
    zero = np.flatnonzero(~embedding.any(axis=1))
    if len(zero):
        # A network may map an image to nothing. Pooled features are rarely negative, so this direction ranks last.
        log.warning("the embedding of %s is zero (%d such images)", names[zero[0]], len(zero))
        embedding = embedding.copy()
        embedding[zero] = -1.0
    query = len(split.query)
    return post.distances(embedding[:query], embedding[query:], names[:query], names[query:], progress)


def _rank(distances: NDArray[np.float32], split: Split, max_rank: int) -> RankResult:
    return rank_metrics(distances, *_ids_of(split), max_rank=max_rank, protocol=split.protocol)


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
