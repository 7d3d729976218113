"""Patterned noise: the images of random noise get the label they are most easily taken for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import DataError
from reid_core.noise.random import choose
from reid_core.types import NoisyLabels


def corrupt(
    labels: NDArray[np.int64],
    ratio: float,
    seed: int,
    *,
    second_labels: NDArray[np.int64],
    num_classes: int | None = None,
) -> NoisyLabels:
    """Give ``rint(n_c * ratio)`` images of every class c their second label.

    Args:
        labels: (N,) int64 in [0, C).
        ratio: share of wrong labels, in [0, 1].
        seed: the noise's own seed; it chooses the same images as random noise does.
        second_labels: (N,) int64, each different from the image's own label.

    Raises:
        DataError: ``second_labels`` does not fit: shape, type, range, or a label equal to the image's own.

    Reference:
        M. Ye et al., IEEE TIP 31, 2022, after DistributionNet (T. Yu et al., ICCV 2019).
    """
    second = np.asarray(second_labels)
    if second.shape != labels.shape or not np.issubdtype(second.dtype, np.integer):
        raise DataError(f"second labels must be {labels.shape} integers, got {second.shape} {second.dtype}")
    same = np.flatnonzero(second == labels)
    if len(same):
        raise DataError(
            f"a second label must differ from the image's own, but row {same[0]} has {second[same[0]]} twice"
        )
    chosen, classes = choose(labels, ratio, seed, num_classes)
    if len(second) and not (0 <= second.min() and second.max() < classes):
        raise DataError(f"second labels must lie in [0, {classes}), got {second.min()} to {second.max()}")
    given = labels.copy()
    given[chosen] = second[chosen]
    return NoisyLabels(given, labels, "patterned", ratio, seed)


def second_labels(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most probable class other than the image's own, from the logits of a network trained on clean labels.

    Args:
        logits: (N, C), C at least 2, summed over image and mirror image.
        labels: (N,) int64.

    Differs from the authors' code:
        it reads the logits of the mirror image alone, by accident.
    """
    others = np.array(logits, dtype=np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    best: NDArray[np.int64] = others.argmax(axis=1).astype(np.int64)
    return best
