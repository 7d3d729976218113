"""Labels drawn by a transition matrix: one draw an image, so that counts are random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import UsageError


def draw_labels(labels: NDArray[np.int64], matrix: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """(N,) given labels: image i gets class j with probability ``matrix[labels[i], j]``.

    One uniform number an image, in the order of the images, from one generator: an image's label depends on its position
    and class alone.

    Args:
        labels: (N,) int64 in [0, C).
        matrix: (C, C), rows that sum to 1.
        seed: the noise's own seed; nothing global is read or set.
    """
    uniform = np.random.default_rng([seed, 2]).random(len(labels))
    given = np.empty_like(labels)
    for c in np.unique(labels):
        members = labels == c
        bounds = matrix[c].cumsum()
        # Divided by its own end, the last bound is exactly 1, and no class of probability 0 can be hit.
        given[members] = np.searchsorted(bounds / bounds[-1], uniform[members], side="right")
    return given


def check_ratio(ratio: float, num_classes: int) -> None:
    """Refuse a ratio outside [0, 1], and noise where there is no other class.

    Raises:
        UsageError: so.
    """
    if not 0.0 <= ratio <= 1.0:
        raise UsageError(f"--noise_ratio must lie in [0, 1], got {ratio}")
    if ratio > 0 and num_classes < 2:
        raise UsageError(f"--noise_ratio {ratio} with a single class: there is no other label to give")
