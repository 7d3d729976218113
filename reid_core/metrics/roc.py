"""ROC of pairs: which share of matches is accepted at a threshold that accepts few non-matches, exact and in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import eval_lib
from reid_core.errors import DataError, NumericalError, UsageError
from reid_core.metrics._products import multiplying_threads
from reid_core.metrics._tensors import as_array
from reid_core.metrics._unit_rows import TILE, Rows, UnitRows, buffer
from reid_core.metrics.rank import PROTOCOLS
from reid_core.plugins import closest

DEFAULT_FPR = (1e-4, 1e-3, 1e-2, 1e-1)

_JUNK_PID = -1
_CELLS = 1 << 22
"""Distances looked at in one go."""

Blocks = Callable[[], Iterable[NDArray[Any]]]
Pieces = Callable[[], Iterable[tuple[int, int, NDArray[Any]]]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PairRoc:
    """The ROC at every distance at which a match lies; between them only the false positive rate grows.

    Attributes:
        thresholds: (P,) distances of matches, ascending, each once; pairs at or below are accepted.
        tpr, fpr: (P,) float64 shares of matches and of non-matches that are accepted; neither ever falls.
        num_matches, num_non_matches: pairs that counted.
        num_dropped: pairs left out for the same identity and camera.
        num_junk: gallery images and queries with pid -1.
    """

    thresholds: NDArray[Any]
    tpr: NDArray[np.float64]
    fpr: NDArray[np.float64]
    num_matches: int
    num_non_matches: int
    num_dropped: int
    num_junk: int

    def __post_init__(self) -> None:
        for array in (self.thresholds, self.tpr, self.fpr):
            array.setflags(write=False)

    def tpr_at(self, fpr: float) -> float:
        """The largest TPR of any threshold whose FPR is at most ``fpr``; 0 if there is none. Nothing is interpolated."""
        allowed = int(np.searchsorted(self.fpr, fpr, side="right"))
        return float(self.tpr[allowed - 1]) if allowed else 0.0

    def to_json(self, fpr: Sequence[float] = DEFAULT_FPR) -> dict[str, Any]:
        """TPR at each FPR, as fractions, and what was counted."""
        return {
            "tpr_at_fpr": {f"{value:g}": self.tpr_at(value) for value in fpr},
            "num_matches": self.num_matches,
            "num_non_matches": self.num_non_matches,
        }


def pair_roc(
    distances: ArrayLike | Blocks,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    *,
    protocol: str = "market1501",
    progress: Progress | None = None,
) -> PairRoc:
    """ROC over all query-gallery pairs that ranking keeps, exact at every distance of a match.

    Gallery images and queries with pid -1 are junk and make no pair; nor do, but with ``any-camera``, images of the same
    identity and camera. Queries without a match do count here: their pairs are non-matches. A non-match at exactly the
    distance of a match is accepted with it, so that an embedding that maps everything to one point has no better
    threshold than the one that accepts everything.

    The matches, which are few, are kept and sorted; non-matches are counted against them a block at a time, on a second
    pass.

    Args:
        distances: (Q, G) float, small is near; or a function that gives all its rows in consecutive blocks, (R, G) each,
            and the same numbers when it is called again.
        q_pids, g_pids, q_camids, g_camids: (Q,) and (G,) integers.
        protocol: as for ``rank_metrics``; ``cuhk03`` is ``market1501`` here.
        progress: called with (pairs done, pairs); each pair counts twice, once a pass.

    Returns:
        PairRoc.

    Raises:
        NumericalError: a distance is NaN; row and column are named.
        DataError: no match, or no non-match.
        UsageError: an unknown protocol, shapes that do not fit.
    """
    pairs = _Pairs(q_pids, g_pids, q_camids, g_camids, protocol)
    blocks = distances if callable(distances) else _rows_of(distances, pairs)
    return _roc(lambda: _checked(blocks, pairs), pairs, progress)


def pair_roc_from_embeddings(
    query: ArrayLike,
    gallery: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    *,
    protocol: str = "market1501",
    progress: Progress | None = None,
) -> PairRoc:
    """The same from embeddings, (Q, D) and (G, D), by the negative cosine, in tiles that are computed twice.

    Raises:
        As ``pair_roc``; NumericalError also for an embedding that is not finite or all zeros; row and set are named.
    """
    pairs = _Pairs(q_pids, g_pids, q_camids, g_camids, protocol)
    images, others = UnitRows(Rows("query", query)), UnitRows(Rows("gallery", gallery))
    for kind, rows, ids in (("query", images, pairs.q_pids), ("gallery", others, pairs.g_pids)):
        if len(rows) != len(ids):
            raise UsageError(f"there are {len(rows)} {kind} embeddings, but {len(ids)} pids")
    if images.width != others.width:
        raise UsageError(f"query embeddings have {images.width} numbers, gallery embeddings {others.width}")

    def pieces() -> Iterator[tuple[int, int, NDArray[Any]]]:
        product = buffer(TILE)
        with multiplying_threads() as multiply:
            for row in range(0, len(images), TILE):
                left = images.packed(row, TILE, False)
                for column in range(0, len(others), TILE):
                    right = others.packed(column, TILE, True)
                    multiply(left, right, product)
                    yield row, column, -product[: left.size, : right.size]

    return _roc(pieces, pairs, progress)


def _roc(pieces: Pieces, pairs: _Pairs, progress: Progress | None) -> PairRoc:
    cells, done = 2 * pairs.rows * pairs.columns, 0
    matches: list[NDArray[Any]] = [np.empty(0, dtype=np.float32)]
    num_non_matches = num_dropped = 0
    for row, column, block in pieces():
        match, other, dropped = pairs.kinds(row, column, block.shape)
        matches.append(block[match])
        num_non_matches += int(other.sum())
        num_dropped += dropped
        done += block.size
        if progress is not None:
            progress(done, cells)
    found = np.concatenate(matches)
    if len(found) == 0 or num_non_matches == 0:
        raise DataError(
            f"{len(found)} matches and {num_non_matches} non-matches among {pairs.rows} queries and {pairs.columns} "
            f"gallery images ({pairs.num_junk} with pid -1, {num_dropped} pairs left out for the same identity and "
            "camera): a ROC needs some of both"
        )
    thresholds, count = np.unique(found, return_counts=True)

    accepted = np.zeros(len(thresholds), dtype=np.int64)
    for row, column, block in pieces():
        _, other, _ = pairs.kinds(row, column, block.shape)
        # Sorted needles in a sorted stack: a search for each match, none for each of the many non-matches.
        accepted += np.searchsorted(np.sort(block[other & (block <= thresholds[-1])]), thresholds, side="right")
        done += block.size
        if progress is not None:
            progress(done, cells)
    return PairRoc(
        thresholds=thresholds,
        tpr=np.cumsum(count) / len(found),
        fpr=accepted / num_non_matches,
        num_matches=len(found),
        num_non_matches=num_non_matches,
        num_dropped=num_dropped,
        num_junk=pairs.num_junk,
    )


class _Pairs:
    """Who matches whom, a piece of the table at a time."""

    def __init__(
        self, q_pids: ArrayLike, g_pids: ArrayLike, q_camids: ArrayLike, g_camids: ArrayLike, protocol: str
    ) -> None:
        if protocol not in PROTOCOLS:
            raise UsageError(
                f"unknown protocol {protocol!r}: known are {', '.join(PROTOCOLS)}.{closest(protocol, PROTOCOLS)}"
            )
        self.drop_same_camera = protocol != "any-camera"
        self.q_pids, self.g_pids = _integers("q_pids", q_pids), _integers("g_pids", g_pids)
        self.rows, self.columns = len(self.q_pids), len(self.g_pids)
        self.q_camids = _integers("q_camids", q_camids, self.rows)
        self.g_camids = _integers("g_camids", g_camids, self.columns)
        self.num_junk = int((self.q_pids == _JUNK_PID).sum() + (self.g_pids == _JUNK_PID).sum())

    def kinds(self, row: int, column: int, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
        """Masks of matches and of non-matches, and how many pairs the camera rule dropped."""
        rows, columns = slice(row, row + shape[0]), slice(column, column + shape[1])
        q_pids, g_pids = self.q_pids[rows, None], self.g_pids[columns]
        kept = (q_pids != _JUNK_PID) & (g_pids != _JUNK_PID)
        same = (q_pids == g_pids) & kept
        if not self.drop_same_camera:
            return same, kept & ~same, 0
        match = same & (self.q_camids[rows, None] != self.g_camids[columns])
        return match, kept & ~same, int(same.sum()) - int(match.sum())


def _integers(name: str, values: ArrayLike, size: int | None = None) -> NDArray[np.int64]:
    array = np.asarray(as_array(values))
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise UsageError(f"{name} must be whole numbers, one an image, got {array.dtype} {array.shape}")
    if size is not None and len(array) != size:
        raise UsageError(f"{name} has {len(array)} entries, but there are {size} pids")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{name} holds {int(array.max())}, beyond 64-bit signed integers")
    return array.astype(np.int64)


def _rows_of(distances: ArrayLike, pairs: _Pairs) -> Blocks:
    table = np.asarray(as_array(distances))
    if table.shape != (pairs.rows, pairs.columns):
        raise UsageError(f"distances must be ({pairs.rows}, {pairs.columns}) like the pids, got {table.shape}")
    step = max(1, _CELLS // max(pairs.columns, 1))
    return lambda: (table[start : start + step] for start in range(0, pairs.rows, step))


def _checked(blocks: Blocks, pairs: _Pairs) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Blocks of rows with their first; together they must be all queries."""
    start = 0
    for given in blocks():
        block = np.asarray(as_array(given))
        if block.ndim != 2 or block.shape[1] != pairs.columns or block.dtype.kind not in "fiu":
            raise UsageError(
                f"distances must be real, with {pairs.columns} columns like g_pids, got {block.dtype} {block.shape}"
            )
        if start + len(block) > pairs.rows:
            break
        if (
            block.dtype.kind in "iu"
            and block.dtype.itemsize == 8
            and block.size
            and max(abs(int(block.min())), int(block.max())) > 2**53
        ):
            raise UsageError("distances hold integers beyond 2**53, which float64 cannot tell apart; scale them down")
        bad = ~np.isfinite(block)
        if bad.any():
            row, column = (int(n) for n in np.argwhere(bad)[0])
            raise NumericalError(str(eval_lib.NotFiniteError(start + row, column, float(block[row, column]))))
        yield start, 0, block
        start += len(block)
    else:
        if start == pairs.rows:
            return
    raise UsageError(f"the blocks of distances do not have one row for each of the {pairs.rows} queries")
