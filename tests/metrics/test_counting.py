"""Counts of a tile: by hand, against the definition in Python, for every instruction set, and what comes of them."""

import numpy as np
import pytest

import eval_lib
from eval_lib import _native
from reid_core.metrics._counting import Counts, query_ranks, scores, sort_matches
from reid_core.metrics._matches import find_matches

native = pytest.mark.skipif(bool(eval_lib.why_missing()), reason=f"no compiled parts: {eval_lib.why_missing()}")


def by_loops(tile, width, starts, thresholds, low, high):
    between, tied = np.zeros(len(thresholds), np.int64), np.zeros(len(thresholds), np.int64)
    for i in range(len(low)):
        for j in range(width):
            if low[i] <= j < high[i]:
                continue
            for m in range(starts[i], starts[i + 1]):
                if tile[i, j] <= thresholds[m]:
                    between[m] += 1
                    tied[m] += tile[i, j] == thresholds[m]
                    break
    return between, tied


def test_by_hand():
    counts = Counts(np.array([0.2, 0.5, 0.5, 0.1], np.float32), np.array([0, 3, 4, 4]))
    tile = np.array([[0.1, 0.2, 0.3, 0.5, 0.6], [0.1, 0.0, 0.2, 0.0, 0.9], [0, 0, 0, 0, 0]], np.float32)
    assert counts.add_tile(tile, 5, 0, np.array([0, 1, 0]), np.array([0, 2, 5]))
    assert counts.between.tolist() == [2, 2, 0, 2] and counts.tied.tolist() == [1, 1, 0, 1]
    # Ranks 2; 5 and 6: two non-matches, then two more, one of them at the very distance of the last two matches.
    found = scores(counts)
    assert found.first_hit.tolist() == [2, 2, -1]
    assert found.ap[0] == pytest.approx((1 / 3 + 2 / 6 + 3 / 7) / 3) and found.inp[0] == pytest.approx(3 / 7)
    assert found.num_tied.tolist() == [3, 1, 0] and np.isnan(found.ap[2])


@pytest.mark.parametrize("isa", [None] if eval_lib.why_missing() else [None, *_native._load()[0].isas()])
def test_against_loops(isa, monkeypatch):
    rng = np.random.default_rng(0)
    if isa is not None:
        monkeypatch.setenv("REID_CORE_ISA", isa)
    module = None if isa is None else _native._load()[0]
    for trial in range(60):
        rows, columns = int(rng.integers(1, 6)), int(rng.choice([1, 3, 16, 17, 31, 64, 200]))
        width = int(rng.integers(1, columns + 1))
        digits = int(rng.integers(0, 4))
        tile = np.round(rng.normal(size=(rows + 2, columns)), digits).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(rng.integers(0, [2, 20, 300][trial % 3], rows))])
        owner = np.repeat(np.arange(rows), np.diff(starts))
        thresholds = np.round(rng.normal(size=starts[-1]), digits).astype(np.float32)
        thresholds = thresholds[np.lexsort((thresholds, owner))]
        ends = np.sort(rng.integers(0, width + 1, (rows, 2)), axis=1)
        low, high = np.ascontiguousarray(ends[:, 0]), np.ascontiguousarray(ends[:, 1])
        counts = Counts(thresholds, starts, module)
        for _ in range(2):  # counts add up
            assert counts.add_tile(tile, width, 0, low, high)
        between, tied = by_loops(tile, width, starts, thresholds, low, high)
        np.testing.assert_array_equal(counts.between, 2 * between)
        np.testing.assert_array_equal(counts.tied, 2 * tied)


def test_every_figure_stands_with_its_query():
    """Counted in the order of the identities, told in the order of the queries: as the ranking of a matrix has it."""
    rng = np.random.default_rng(1)
    distmat = rng.integers(0, 50, (40, 90)).astype(np.float32)
    ids = rng.integers(0, 9, 40), rng.integers(-1, 9, 90), rng.integers(0, 3, 40), rng.integers(0, 3, 90)
    matches = find_matches(*ids, drop_same_camera=True)
    tile = distmat[matches.query_order][:, matches.gallery_order]
    owner, column = matches.pairs(0, 40)
    counts = Counts(sort_matches(tile[owner, column], owner), matches.starts)
    assert counts.add_tile(tile, tile.shape[1], 0, matches.low, matches.high)
    found, expected = (
        query_ranks([scores(counts)], matches, "python"),
        eval_lib.rank_queries(distmat, *ids, backend="python"),
    )
    for name in ("first_hit", "ap", "ap_trapezoid", "inp", "num_matches", "num_tied", "num_dropped", "num_junk"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("module", [None, pytest.param("native", marks=native)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_noticed_where_it_counts(module, bad):
    counts = Counts(np.zeros(1, np.float32), np.array([0, 1]), module and _native._load()[0])
    tile = np.zeros((2, 40), np.float32)
    for column, fine in ((5, False), (20, True), (35, False), (39, True)):
        tile[:] = 0
        tile[0, column] = bad
        assert counts.add_tile(tile, 39, 0, np.array([10]), np.array([30])) is fine


@native
def test_wrong_calls_do_not_reach_the_kernel():
    module = _native._load()[0]
    call = {
        "tile": np.zeros((2, 4), np.float32),
        "width": 4,
        "low": np.zeros(2, np.int64),
        "high": np.full(2, 4),
        "thresholds": np.zeros(3, np.float32),
        "starts": np.array([0, 1, 3]),
        "isa": 0,
        "between": np.zeros(3, np.int64),
        "tied": np.zeros(3, np.int64),
    }
    assert module.count_tile(**call)
    for change in (
        {"width": 5},
        {"high": np.full(2, 5)},
        {"low": np.full(2, -1)},
        {"low": np.full(2, 3), "high": np.full(2, 2)},
        {"starts": np.array([0, 1, 4])},
        {"starts": np.array([0, 2, 1])},
        {"starts": np.array([-1, 1, 3])},
        {"starts": np.array([0, 1])},
        {"between": np.zeros(2, np.int64)},
        {"isa": 9},
    ):
        with pytest.raises(ValueError):
            module.count_tile(**{**call, **change})
