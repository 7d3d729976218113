"""Measure networks on query and gallery: each alone, and both together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.data._dataset import EvalImages, eval_loader
from reid_core.data._transforms import eval_transform
from reid_core.engine.predict import predict
from reid_core.errors import DataError
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.rank import rank_metrics
from reid_core.models._network import Network
from reid_core.types import RankResult, Sample, Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """How to measure: (height, width), mirror images or not, length of the CMC, images a batch, loader workers."""

    image_size: tuple[int, int]
    flip: bool
    max_rank: int = 50
    batch_size: int = 64
    workers: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Results of each network in order, and of the pair where there are two or more."""

    networks: tuple[RankResult, ...]
    ensemble: RankResult | None

    def to_json(self) -> dict[str, Any]:
        """Network 0 at top level, all under ``networks``, the pair under ``ensemble``."""
        body = self.networks[0].to_json()
        body["networks"] = [result.to_json() for result in self.networks]
        body["ensemble"] = None if self.ensemble is None else self.ensemble.to_json()
        return body


def evaluate(
    networks: Sequence[Network],
    split: Split,
    options: EvaluationOptions,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Rank the gallery for every query, by the protocol of ``split``.

    Together, the networks rank by the mean of their distances: unlike the mean of their embeddings it needs no common
    width, and it ranked a little better wherever it was measured (``docs/results.md``).

    Raises:
        DataError: there is no query or no gallery.
    """
    if not split.query or not split.gallery:
        raise DataError(
            f"{split.root}: {len(split.query)} query and {len(split.gallery)} gallery images; nothing can be ranked. "
            "Cut a query and a gallery from your data with: reid-core split reid SRC OUT"
        )
    samples = split.query + split.gallery
    dataset = EvalImages(split.root, samples, eval_transform(options.image_size))
    loader = eval_loader(dataset, options.batch_size, options.workers)
    total = len(samples) * len(networks)
    embeddings: list[NDArray[np.float32]] = []
    for k, network in enumerate(networks):
        base = k * len(samples)
        tick = None if progress is None else (lambda done, base=base: progress(base + done, total))
        embeddings.append(predict(network, loader, device, options.flip, tick).embedding)
    distances = [_distances(matrix, split, samples) for matrix in embeddings]
    results = tuple(_rank(matrix, split, options.max_rank) for matrix in distances)
    pair = None if len(networks) < 2 else _rank(np.mean(distances, axis=0), split, options.max_rank)
    return Evaluation(results, pair)


def unmatched(split: Split) -> list[Sample]:
    """The queries that no gallery image can match by the protocol of ``split``."""
    cameras: dict[int, set[int]] = {}
    for sample in split.gallery:
        if sample.role == "identity":
            cameras.setdefault(sample.pid, set()).add(sample.camid)
    any_camera = split.protocol == "any-camera"
    return [q for q in split.query if not (cameras.get(q.pid, set()) - (set() if any_camera else {q.camid}))]


def _distances(embedding: NDArray[np.float32], split: Split, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """(Q, G) cosine distances; ``embedding`` holds the queries' rows, then the gallery's."""
    names = [sample.path for sample in samples]
    zero = np.flatnonzero(~embedding.any(axis=1))
    if len(zero):
        # A network may map an image to nothing. Pooled features are rarely negative, so this direction ranks last.
        log.warning("the embedding of %s is zero (%d such images)", names[zero[0]], len(zero))
        embedding = embedding.copy()
        embedding[zero] = -1.0
    num_query = len(split.query)
    return distance_matrix(
        embedding[:num_query],
        embedding[num_query:],
        metric="cosine",
        query_names=names[:num_query],
        gallery_names=names[num_query:],
    )


def _rank(distances: NDArray[np.float32], split: Split, max_rank: int) -> RankResult:
    q_pids, q_camids = _ids(split.query)
    g_pids, g_camids = _ids(split.gallery)
    return rank_metrics(distances, q_pids, g_pids, q_camids, g_camids, max_rank=max_rank, protocol=split.protocol)


def _ids(samples: Sequence[Sample]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Distractors match nobody and junk is dropped: -2 and -1, whatever the data set calls them.
    numbers = {"distractor": -2, "junk": -1}
    pids = np.array([numbers.get(s.role, s.pid) for s in samples], np.int64)
    return pids, np.array([s.camid for s in samples], np.int64)
