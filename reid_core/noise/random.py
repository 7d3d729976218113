"""Random noise: an exact number of labels an identity is replaced, each by any other identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import UsageError
from reid_core.types import NoisyLabels


def corrupt(labels: NDArray[np.int64], ratio: float, seed: int, *, num_classes: int | None = None) -> NoisyLabels:
    """Replace ``rint(n_c * ratio)`` labels of every class c by labels drawn uniformly from the other classes.

    Args:
        labels: (N,) int64 in [0, C), in the order of the training samples.
        ratio: share of wrong labels asked for, in [0, 1]; the realised share differs by the rounding.
        seed: the noise's own seed; nothing global is read or set.
        num_classes: C; by default the largest label plus one.

    Raises:
        UsageError: the ratio lies outside [0, 1], or labels would have to change with a single class.

    Reference:
        the noise of M. Ye et al., IEEE TIP 31, 2022. Differs from the authors' code: a generator of its own.
    """
    chosen, classes = choose(labels, ratio, seed, num_classes)
    if len(chosen) and classes < 2:
        raise UsageError(f"--noise_ratio {ratio} with a single identity: there is no other label to give")
    draws = np.random.default_rng([seed, 1]).integers(0, max(classes - 1, 1), size=len(chosen))
    given = labels.copy()
    # Skipping over the true class makes every other class equally likely.
    given[chosen] = draws + (draws >= labels[chosen])
    return NoisyLabels(given, labels, "random", ratio, seed)


def choose(
    labels: NDArray[np.int64], ratio: float, seed: int, num_classes: int | None = None
) -> tuple[NDArray[np.int64], int]:
    """Positions whose label is replaced, class after class, and the number of classes.

    The count of a class is ``n_c * ratio`` rounded half to even: 17 x 0.2 gives 3, 10 x 0.25 and 6 x 0.25 give 2.
    """
    if not 0.0 <= ratio <= 1.0:
        raise UsageError(f"--noise_ratio must lie in [0, 1], got {ratio}")
    classes = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    order = np.random.default_rng([seed, 0])
    parts = [np.empty(0, np.int64)]
    for c in range(classes):
        members = np.flatnonzero(labels == c)
        count = int(np.rint(len(members) * ratio))
        parts.append(order.choice(members, size=count, replace=False))
    return np.concatenate(parts).astype(np.int64), classes
