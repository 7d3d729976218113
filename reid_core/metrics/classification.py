"""How well scores tell classes apart, for all images and for each class: all figures of one confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_core.errors import NumericalError, UsageError

MANY, FEW = 100, 20
"""Training images of a class: more than ``MANY`` is many, fewer than ``FEW`` is few, the rest is medium."""


@dataclass(frozen=True)
class ClassificationResult:
    """The outcome of classifying test images. Fractions; arrays are read-only.

    Means over classes are means over the classes with test images.

    Attributes:
        accuracy: share of images whose highest score is their class's; of equal scores the lowest class counts.
        accuracy5: share of images with their class among the five highest; None with fewer than five classes.
        balanced_accuracy: mean of the recalls.
        geometric_mean, harmonic_mean: of the recalls; 0 where any recall is 0 (unless a floor was given).
        lowest_recall: of the worst class.
        many, medium, few: mean recall of the classes with more than 100, 20 to 100, fewer than 20 training images; None
            where there is no such class, or the numbers of training images are not known.
        recall: (C,) float64, NaN for classes without test images.
        confusion: (C, C) int64, ``confusion[true, predicted]``.
        absent: classes without test images.
        floor: recalls below it counted as it in the geometric and the harmonic mean.
    """

    accuracy: float
    accuracy5: float | None
    balanced_accuracy: float
    geometric_mean: float
    harmonic_mean: float
    lowest_recall: float
    many: float | None
    medium: float | None
    few: float | None
    recall: NDArray[np.float64]
    confusion: NDArray[np.int64]
    absent: tuple[int, ...]
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("recall", "confusion"):
            getattr(self, name).setflags(write=False)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for ``result.json``; recalls that are NaN become None, and of the confusion matrix only what is
        not 0 is kept, as ``[true class, predicted class, images]``: never more rows than test images.
        """
        true, predicted = np.nonzero(self.confusion)
        return {
            "accuracy": self.accuracy,
            "accuracy5": self.accuracy5,
            "balanced_accuracy": self.balanced_accuracy,
            "geometric_mean": self.geometric_mean,
            "harmonic_mean": self.harmonic_mean,
            "lowest_recall": self.lowest_recall,
            "many": self.many,
            "medium": self.medium,
            "few": self.few,
            "recall": [None if np.isnan(value) else float(value) for value in self.recall],
            "confusion": np.stack([true, predicted, self.confusion[true, predicted]], axis=1).tolist(),
            "absent_classes": list(self.absent),
            "num_test_images": int(self.confusion.sum()),
        }


def classification_metrics(
    scores: ArrayLike, labels: ArrayLike, train_counts: ArrayLike | None = None, *, floor: float = 0.0
) -> ClassificationResult:
    """Accuracy, recalls and their means.

    Args:
        scores: (N, C) float, high is probable: logits or probabilities.
        labels: (N,) integers in [0, C), the true classes.
        train_counts: (C,) integers, training images of each class; without them many, medium and few are None.
        floor: in [0, 1): a recall below it counts as it in the geometric and harmonic mean, which are else 0 as soon as one
            class is never recognised.

    Raises:
        UsageError: shapes that do not fit, no image, labels that are no integers or out of range, a floor out of range.
        NumericalError: a score is NaN or infinite; the row is named.

    Reference:
        many, medium and few: Z. Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019; geometric
        mean, harmonic mean and lowest recall: Y. Du and J. Wu, "No One Left Behind", CVPR 2023.
    """
    table, truth, counts = _checked(scores, labels, train_counts)
    if not 0 <= floor < 1:
        raise UsageError(f"floor must lie in [0, 1), got {floor}")
    num_classes = table.shape[1]
    predicted = table.argmax(axis=1)  # NumPy takes the first of equals
    confusion = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes).astype(np.int64)
    totals = confusion.sum(axis=1)
    present = totals > 0
    recall = np.full(num_classes, np.nan)
    recall[present] = confusion.diagonal()[present] / totals[present]
    known = recall[present]
    floored = np.maximum(known, floor)
    positive = bool(floored.min() > 0)
    return ClassificationResult(
        accuracy=float((predicted == truth).mean()),
        accuracy5=_among_the_first(table, truth, 5) if num_classes >= 5 else None,
        balanced_accuracy=float(known.mean()),
        geometric_mean=float(np.exp(np.log(floored).mean())) if positive else 0.0,
        harmonic_mean=float(len(floored) / (1 / floored).sum()) if positive else 0.0,
        lowest_recall=float(known.min()),
        many=_mean_where(recall, None if counts is None else counts > MANY),
        medium=_mean_where(recall, None if counts is None else (counts >= FEW) & (counts <= MANY)),
        few=_mean_where(recall, None if counts is None else counts < FEW),
        recall=recall,
        confusion=confusion,
        absent=tuple(np.flatnonzero(~present).tolist()),
        floor=floor,
    )


def _checked(
    scores: ArrayLike, labels: ArrayLike, train_counts: ArrayLike | None
) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64], NDArray[np.int64] | None]:
    table, truth = np.asarray(scores), np.asarray(labels)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.floating) or 0 in table.shape:
        raise UsageError(f"scores must be (N, C) floats with N and C at least 1, got {table.shape} {table.dtype}")
    if truth.shape != table.shape[:1] or not np.issubdtype(truth.dtype, np.integer):
        raise UsageError(
            f"labels must be ({len(table)},) integers, one a row of scores, got {truth.shape} {truth.dtype}"
        )
    wrong = np.flatnonzero((truth < 0) | (truth >= table.shape[1]))
    if len(wrong):
        raise UsageError(f"labels must lie in [0, {table.shape[1]}), got {truth[wrong[0]]} at row {wrong[0]}")
    finite = np.isfinite(table).all(axis=1)
    if not finite.all():
        raise NumericalError(
            f"{int((~finite).sum())} of {len(table)} rows of scores hold NaN or an infinite value, the first is row "
            f"{int(finite.argmin())}; nothing can be said of such a network"
        )
    if train_counts is None:
        return table, truth.astype(np.int64), None
    counts = np.asarray(train_counts)
    if counts.shape != table.shape[1:] or not np.issubdtype(counts.dtype, np.integer):
        raise UsageError(f"train_counts must be ({table.shape[1]},) integers, got {counts.shape} {counts.dtype}")
    return table, truth.astype(np.int64), counts.astype(np.int64)


def _among_the_first(table: NDArray[np.floating[Any]], truth: NDArray[np.int64], k: int) -> float:
    """Share of rows with fewer than ``k`` classes before their own: of a higher score, or an equal one and a lower number."""
    own = table[np.arange(len(table)), truth][:, None]
    before = (table > own) | ((table == own) & (np.arange(table.shape[1]) < truth[:, None]))
    return float((before.sum(axis=1) < k).mean())


def _mean_where(recall: NDArray[np.float64], group: NDArray[np.bool_] | None) -> float | None:
    if group is None:
        return None
    found = recall[group & ~np.isnan(recall)]
    return float(found.mean()) if len(found) else None
