"""Threads and forks: the compiled code holds no state, and its own threads are gone before a fork can meet them."""

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import eval_lib
from eval_lib import _native
from eval_lib._queries import _default_threads

pytestmark = pytest.mark.skipif(
    bool(eval_lib.why_missing()), reason=f"compiled ranking is missing: {eval_lib.why_missing()}"
)


def table(seed, rows=60, columns=900):
    rng = np.random.default_rng(seed)
    distmat = np.round(rng.random((rows, columns)), 3).astype(np.float32)
    ids = (
        rng.integers(0, 30, rows),
        rng.integers(-1, 30, columns),
        rng.integers(0, 6, rows),
        rng.integers(0, 6, columns),
    )
    return distmat, *ids


def scores(seed, threads=1):
    ranks = eval_lib.rank_queries(*table(seed), backend="native", threads=threads)
    return np.concatenate([ranks.ap, ranks.ap_trapezoid, ranks.inp, ranks.first_hit]).tobytes()


def test_eight_threads_a_hundred_calls_each_agree_to_the_bit():
    expected = [scores(seed) for seed in range(8)]

    def calls(seed):
        return all(scores(seed, threads=1 + k % 2) == expected[seed] for k in range(100))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(calls, range(8))) == [True] * 8


@pytest.mark.parametrize("threads", [2, 3, 7, 64])
def test_number_of_threads_changes_nothing(threads):
    assert scores(1, threads) == scores(1)


def test_no_more_threads_than_there_is_work_and_processors(monkeypatch):
    found = []
    for processors in (2, 64):
        monkeypatch.setattr(_native, "usable_processors", lambda processors=processors: processors)
        found.append([_default_threads(pairs) for pairs in (0, 1_999_999, 3_000_000, 10**9)])
    assert found == [[1, 1, 2, 2], [1, 1, 3, 16]]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_threads_does_not_hang():
    """libgomp hangs here; our threads have ended when the call returns."""
    expected = scores(0, threads=2)
    context = multiprocessing.get_context("fork")
    for _ in range(20):
        assert scores(0, threads=2) == expected
        with context.Pool(2) as pool:
            result = pool.starmap_async(scores, [(0, 2), (0, 1)])
            assert result.get(timeout=60) == [expected, expected]
