"""Query expansion and database augmentation: an embedding is blended with those of its nearest gallery images."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_core.errors import NumericalError, UsageError
from reid_core.metrics._nearest import nearest_among, nearest_of_all
from reid_core.metrics._unit_rows import TILE, Rows, UnitRows

Progress = Callable[[int, int], None]


def average_query_expansion(
    query: ArrayLike,
    gallery: ArrayLike,
    k: int,
    alpha: float = 0.0,
    *,
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Each query plus its ``k`` nearest gallery images, weighted by similarity to the power ``alpha``, as unit vector.

    All are taken as unit vectors and the query itself weighs 1. With ``alpha`` 0 all weigh the same; else images at a
    right angle or farther weigh nothing. Of equally near images the lower index comes first.

    Args:
        query: (Q, D) real. gallery: (G, D) real.
        k: how many, at least 1 and at most G.
        alpha: at least 0; 3 is the value of Radenovic et al.
        query_names, gallery_names: image paths, for the messages.
        progress: called with (queries done, queries).

    Returns:
        (Q, D) float32, rows of length 1.

    Raises:
        NumericalError: an embedding has a NaN or an infinite number, or is a row of zeros, or a blend cancels out.
        UsageError: shapes that do not fit, or numbers out of range.

    Reference: O. Chum, J. Philbin, J. Sivic, M. Isard, A. Zisserman, "Total Recall: Automatic Query Expansion with a
    Generative Feature Model for Object Retrieval", ICCV 2007 (alpha 0); F. Radenovic, G. Tolias, O. Chum, "Fine-tuning
    CNN Image Retrieval with No Human Annotation", TPAMI 2018, section 3.3 (alpha > 0).
    """
    images = UnitRows(Rows("query", query, query_names))
    others = UnitRows(Rows("gallery", gallery, gallery_names))
    if images.width != others.width:
        raise UsageError(
            f"query embeddings have {images.width} numbers, gallery embeddings {others.width}: "
            "both must come from the same network"
        )
    _check(k, alpha, len(others), "gallery images")
    nearest = nearest_among(images, others, k, progress)
    return _blended("query", images, others, nearest.index, nearest.similarity, alpha)


def database_augmentation(
    gallery: ArrayLike,
    k: int,
    alpha: float = 0.0,
    *,
    gallery_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Each gallery image plus its ``k`` nearest others in the gallery, weighted likewise, as unit vector.

    Junk and distractors take part like all others: no label is looked at. Queries stay as they are.

    Args:
        gallery: (G, D) real.
        k: how many, at least 1 and less than G.
        alpha, gallery_names: as for ``average_query_expansion``.
        progress: called with (steps done, steps).

    Returns:
        (G, D) float32, rows of length 1.

    Raises:
        As ``average_query_expansion``.

    Reference: R. Arandjelovic, A. Zisserman, "Three Things Everyone Should Know to Improve Object Retrieval", CVPR
    2012, section 5 (there on words of features, here on embeddings).
    """
    images = UnitRows(Rows("gallery", gallery, gallery_names))
    _check(k, alpha, len(images) - 1, "gallery images beside the image itself")
    found, _ = nearest_of_all(images, k + 1, progress=progress)
    # Where many images are the same, an image may be missing from its own list: then the last entry goes.
    itself = found.index == np.arange(len(images), dtype=np.int32)[:, None]
    itself[~itself.any(axis=1), -1] = True
    index, similarity = (array[~itself].reshape(-1, k) for array in (found.index, found.similarity))
    return _blended("gallery", images, images, index, similarity, alpha)


def _check(k: int, alpha: float, available: int, what: str) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise UsageError(f"k must be a whole number of at least 1, got {k!r}")
    if k > available:
        raise UsageError(f"k must be at most the {available} {what}, got {k}")
    if not (isinstance(alpha, numbers.Real) and math.isfinite(alpha) and alpha >= 0):
        raise UsageError(f"alpha must be a finite number of at least 0, got {alpha!r}")


def _blended(
    kind: str,
    images: UnitRows,
    others: UnitRows,
    index: NDArray[np.int32],
    similarity: NDArray[np.float32],
    alpha: float,
) -> NDArray[np.float32]:
    # No more than 1: what rounding adds to a similarity would grow beyond all numbers with a large alpha.
    weight = (np.clip(similarity, 0, 1).astype(np.float64) ** alpha).astype(np.float32)
    blend = np.empty((len(images), images.width), dtype=np.float32)
    for start in range(0, len(images), TILE):
        block = images.tile(start, blend[start : start + TILE])
        for neighbours, share in zip(index[start : start + TILE].T, weight[start : start + TILE].T):
            block += others.pick(neighbours) * share[:, None]
        lengths = np.linalg.norm(block, axis=1)
        if not lengths.all():
            row = start + int(np.flatnonzero(lengths == 0)[0])
            raise NumericalError(
                f"{kind} image {row} and its nearest gallery images cancel out: their embeddings sum to zero, which has "
                "no direction. Take another k"
            )
        block /= lengths[:, None]
    return blend
