"""The training images whose given label the networks most agree is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Suspect:
    """One training image: its position, its given label, what the networks suggest, and how sure that looks.

    ``score`` lies in (0, 1]; larger is more suspicious.
    """

    index: int
    given: int
    suggestion: int
    score: float


def suspected_labels(
    given: NDArray[np.int64], epochs: Sequence[Mapping[str, NDArray[Any]]], min_score: float = 0.5
) -> list[Suspect]:
    """Images whose given label is contradicted, the most suspicious first.

    The score of a class for an image is the mean, over the given epochs and all networks, of the confidence of those
    predictions that name the class (others count 0). The suggestion is the class with the highest score; an image is
    suspected where that is not its given label and its score, less that of the given label, exceeds ``min_score``.

    Args:
        given: (N,) labels trained on.
        epochs: records of the last epochs: ``prediction`` (K, N) integers, -1 where not visited, and ``confidence``
            (K, N) in [0, 1].
        min_score: the least score listed.
    """
    votes = np.concatenate([records["prediction"] for records in epochs]).astype(np.int64)
    trust = np.concatenate([records["confidence"] for records in epochs]).astype(np.float64)
    trust = np.where(votes >= 0, np.nan_to_num(trust), 0.0) / len(votes)
    suspects = []
    for i, label in enumerate(given):
        classes, where = np.unique(votes[:, i], return_inverse=True)
        scores = np.bincount(where.ravel(), weights=trust[:, i])
        best = int(scores.argmax())
        own = float(scores[classes == label].sum())
        score = float(scores[best]) - own
        if classes[best] >= 0 and classes[best] != label and score > min_score:
            suspects.append(Suspect(i, int(label), int(classes[best]), score))
    return sorted(suspects, key=lambda s: (-s.score, s.index))
