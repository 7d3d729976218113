"""A balanced data set becomes a long-tailed one: how many images each class keeps, and which."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import UsageError
from reid_core.randomness import generator

KINDS = ("exp", "step")


def long_tail_counts(available: NDArray[np.int64], kind: str, factor: float) -> NDArray[np.int64]:
    """(C,) images that each class keeps.

    With M the size of the largest class (of a balanced data set, every class): ``exp`` keeps
    ``floor(M * factor^(c / (C - 1)))`` of class c; ``step`` keeps M of the first ``floor(C / 2)`` classes and
    ``floor(M * factor)`` of the others. At least 1, and at most what the class has. The order of the classes decides which
    is large: the first keeps all, the last the share ``factor``.

    Args:
        available: (C,) images of each class.
        kind: ``exp`` or ``step``.
        factor: smallest over largest class, in (0, 1]; 1 changes nothing.

    Raises:
        UsageError: an unknown kind, or a factor outside (0, 1].

    Reference:
        K. Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019. Differs from
        the authors' code: of an odd number of classes, ``step`` makes the larger part small, and none is forgotten.
    """
    if kind not in KINDS:
        raise UsageError(f"--imbalance must be {' or '.join(KINDS)}, got {kind!r}")
    if not 0 < factor <= 1:
        raise UsageError(f"--imbalance_factor must lie in (0, 1], got {factor}")
    num_classes = len(available)
    place = np.arange(num_classes)
    power = place / max(num_classes - 1, 1) if kind == "exp" else (place >= num_classes // 2).astype(np.float64)
    # 100 * 0.29 is 28.999999999999996: the small number keeps rounding errors from costing an image.
    wanted = np.floor(available.max(initial=0) * factor**power + 1e-9).astype(np.int64)
    kept: NDArray[np.int64] = np.minimum(np.maximum(wanted, 1), available)
    return kept


def keep_long_tail(labels: NDArray[np.int64], kind: str, factor: float, seed: int) -> NDArray[np.int64]:
    """Ascending positions of the images that stay: of every class the first ones of a seeded shuffle.

    Args:
        labels: (N,) int64 in [0, C), true ones.
        kind, factor: see ``long_tail_counts``.
        seed: decides which images stay; of two factors with the same seed, the smaller keeps a part of the larger's.
    """
    available = np.bincount(labels)
    counts = long_tail_counts(available, kind, factor)
    draw = generator(seed, "imbalance")
    parts = [draw.permutation(np.flatnonzero(labels == c))[:count] for c, count in enumerate(counts)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
