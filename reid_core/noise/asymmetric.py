"""Asymmetric noise: the images of a class are taken for those of one other class, its target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import UsageError
from reid_core.noise._transition import check_ratio, draw_labels
from reid_core.plugins import closest
from reid_core.types import NoisyLabels

CIFAR10_PAIRS = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
"""The published targets of CIFAR-10; its other five classes keep their labels."""

CIFAR10 = frozenset(CIFAR10_PAIRS) | {"airplane", "automobile", "frog", "horse", "ship"}


def corrupt(
    labels: NDArray[np.int64],
    ratio: float,
    seed: int,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
    asymmetric_pairs: Sequence[str] = (),
) -> NoisyLabels:
    """Draw every label by ``transition_matrix``: its own class or, with probability ``ratio``, the class's target.

    Args:
        labels: (N,) int64 in [0, C), in the order of the training samples.
        ratio: probability of the target, in [0, 1].
        seed: the noise's own seed; nothing global is read or set.
        num_classes: C; by default the largest label plus one.
        class_names: (C,), by which targets are found.
        asymmetric_pairs: ``FROM=TO`` class names; without any, see ``targets_of``.

    Raises:
        UsageError: the ratio lies outside [0, 1], there is a single class, or a pair cannot be meant.
    """
    classes = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    names = tuple(class_names) or tuple(map(str, range(classes)))
    matrix = transition_matrix(targets_of(names, asymmetric_pairs), ratio)
    return NoisyLabels(draw_labels(labels, matrix, seed), labels, "asymmetric", ratio, seed)


def transition_matrix(targets: NDArray[np.int64], ratio: float) -> NDArray[np.float64]:
    """(C, C) probability of given label j (column) for true class i (row).

    ``1 - ratio`` on the diagonal and ``ratio`` in the target's column; 1 on the diagonal of a class that is its own target.

    Args:
        targets: (C,) the target of each class.
        ratio: in [0, 1].

    Raises:
        UsageError: the ratio lies outside [0, 1], or there is a single class.
    """
    check_ratio(ratio, len(targets))
    matrix = np.eye(len(targets)) * (1 - ratio)
    matrix[np.arange(len(targets)), targets] += ratio
    own = targets == np.arange(len(targets))
    matrix[own, own] = 1.0  # exactly, whatever (1 - ratio) + ratio rounds to
    return matrix


def targets_of(class_names: Sequence[str], pairs: Sequence[str] = ()) -> NDArray[np.int64]:
    """(C,) what each class is taken for: by ``pairs``; else, if the classes are CIFAR-10's, by the published pairs; else
    class i for class (i + 1) mod C.

    A class that no pair begins with is its own target.

    Raises:
        UsageError: a pair is not ``FROM=TO`` with two different class names, or two begin with the same class.

    Reference:
        the pairs of CIFAR-10: G. Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017.
    """
    place = {name: c for c, name in enumerate(class_names)}
    if not pairs and set(class_names) != CIFAR10:
        return (np.arange(len(class_names)) + 1) % max(len(class_names), 1)
    chosen: dict[str, str] = {} if pairs else CIFAR10_PAIRS
    for pair in pairs:
        first, second = _parts(pair, place)
        if first in chosen:
            raise UsageError(
                f"--asymmetric_pairs: {first!r} is taken for {chosen[first]!r} and for {second!r}; give one"
            )
        chosen[first] = second
    targets = np.arange(len(class_names))
    for first, second in chosen.items():
        targets[place[first]] = place[second]
    return targets


def _parts(pair: str, place: dict[str, int]) -> tuple[str, str]:
    """The two class names of ``FROM=TO``; names may hold the sign themselves."""
    cuts = [(pair[:i], pair[i + 1 :]) for i, letter in enumerate(pair) if letter == "="]
    fitting = [(a, b) for a, b in cuts if a in place and b in place and a != b]
    if len(fitting) == 1:
        return fitting[0]
    unknown = next((name for cut in cuts for name in cut if name not in place), "")
    raise UsageError(
        f"--asymmetric_pairs takes FROM=TO with two different class names, like cat=dog, got {pair!r}."
        f"{closest(unknown, place) if unknown else ''}"
    )
