"""Symmetric noise: every label is wrong with the same probability, and then any other class is equally likely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.noise._transition import check_ratio, draw_labels
from reid_core.types import NoisyLabels


def corrupt(labels: NDArray[np.int64], ratio: float, seed: int, *, num_classes: int | None = None) -> NoisyLabels:
    """Draw every label by ``transition_matrix``; the share of wrong ones is ``ratio`` on average.

    (``random`` makes an exact number of each class wrong.)

    Args:
        labels: (N,) int64 in [0, C), in the order of the training samples.
        ratio: probability of a wrong label, in [0, 1].
        seed: the noise's own seed; nothing global is read or set.
        num_classes: C; by default the largest label plus one.

    Raises:
        UsageError: the ratio lies outside [0, 1], or there is a single class.
    """
    classes = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    matrix = transition_matrix(classes, ratio)
    return NoisyLabels(draw_labels(labels, matrix, seed), labels, "symmetric", ratio, seed)


def transition_matrix(num_classes: int, ratio: float) -> NDArray[np.float64]:
    """(C, C) probability of given label j (column) for true class i (row): ``1 - ratio`` on the diagonal, else
    ``ratio / (C - 1)``.

    Raises:
        UsageError: the ratio lies outside [0, 1], or there is a single class.
    """
    check_ratio(ratio, num_classes)
    matrix = np.full((num_classes, num_classes), ratio / max(num_classes - 1, 1))
    np.fill_diagonal(matrix, 1 - ratio)
    return matrix
