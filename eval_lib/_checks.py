"""What goes into a ranking is checked here, once, before any compiled code sees it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

JUNK_PID = -1


class NotFiniteError(ValueError):
    """A distance is NaN or infinite.

    Attributes:
        row: query. column: gallery image; both counted from 0.
        value: the distance.
    """

    def __init__(self, row: int, column: int, value: float = float("nan")) -> None:
        self.row = row
        self.column = column
        self.value = value
        what = "NaN" if math.isnan(value) else "infinite" if value > 0 else "minus infinity"
        super().__init__(
            f"distmat[{row}, {column}] is {what} (query {row}, gallery image {column}): "
            "look for NaN and for very large numbers in the embeddings of these two images"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.row, self.column, self.value)


NotANumberError = NotFiniteError
"""Its name before infinite distances were refused, too."""


class NoMatchError(ValueError):
    """No query has a match among the images kept for it."""


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """``values`` as an array, without a copy where there is one.

    Raises:
        TypeError: they cannot be read as one, such as a tensor that requires gradients.
    """
    try:
        return np.asarray(values)
    except Exception as error:  # whatever the other library calls it
        raise TypeError(f"{name} cannot be read as an array: {error}") from error


def identities(name: str, values: ArrayLike, size: int, unit: str) -> NDArray[np.int64]:
    """``values`` as (size,) contiguous int64.

    Raises:
        TypeError: not integers. ValueError: not one a query or gallery image, or beyond 64 bits.
    """
    array = as_array(name, values)
    if array.ndim != 1 or len(array) != size:
        raise ValueError(f"{name} must have one entry for each of the {size} {unit}, got shape {array.shape}")
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)  # an empty list has no integer type
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must be integers, got {array.dtype}; use .astype(numpy.int64) if it holds whole numbers"
        )
    if array.dtype.kind == "u" and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds {int(array.max())}, beyond 64-bit signed integers")
    return np.ascontiguousarray(array, dtype=np.int64)


def distances(distmat: ArrayLike) -> NDArray[Any]:
    """``distmat`` as a 2-d array whose values float32 or float64 hold exactly; floats are not copied.

    Raises:
        TypeError: not real numbers of at most 64 bits. ValueError: not 2-d, without queries, or integers beyond 2**53.
    """
    array = as_array("distmat", distmat)
    if array.ndim != 2:
        raise ValueError(f"distmat must be (num_query, num_gallery), got shape {array.shape}")
    if array.shape[0] == 0:
        raise ValueError(f"distmat has no query: its shape is {array.shape}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    if not (kind in "iub" or (kind == "f" and size <= 8)):
        raise TypeError(f"distmat must be float16, float32 or float64, or integers, got {array.dtype}")
    if kind in "iu" and size == 8:
        if array.size and (int(array.max()) > 2**53 or int(array.min()) < -(2**53)):
            raise ValueError("distmat holds integers beyond 2**53, which float64 cannot tell apart; scale them down")
        return array.astype(np.float64)
    return array


def real_type(array: NDArray[Any]) -> type[np.float32] | type[np.float64]:
    """The type that ``array`` is compared in: its values fit without rounding."""
    exact_in_float32 = np.can_cast(array.dtype, np.float32, "safe")
    return np.float32 if exact_in_float32 else np.float64


MOST_RANKS = 1 << 24


def max_rank(value: int) -> int:
    """``value`` as an int in [1, 2**24]: so many numbers are made of it, however short the gallery.

    Raises:
        TypeError: not a whole number. ValueError: out of range.
    """
    if count("max_rank", value) > MOST_RANKS:
        raise ValueError(f"max_rank must be at most {MOST_RANKS}, got {value}")
    return int(value)


def count(name: str, value: int) -> int:
    """``value`` as an int of at least 1.

    Raises:
        TypeError: not a whole number. ValueError: less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def seed(value: int) -> int:
    """``value`` as an int of at least 0.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {value!r}")
    return int(value)
