"""Answers by hand: one table for the definition and its compiled twin. Needs NumPy and pytest alone."""

import math

import numpy as np
import pytest

import eval_lib

BACKENDS = ["python"] + ([] if eval_lib.why_missing() else ["native"])

# name, relevance of the gallery from near to far, AP step, AP trapezoid, INP, first hit.
# (0,1,0,1): precisions 1/2 and 2/4; trapezoid (1/2+0/1)/2 and (2/4+1/3)/2. (1,0,1): 1 and 2/3; (1+1)/2 and (2/3+1/2)/2.
ONE_QUERY = [
    ("only the match", (1,), 1.0, 1.0, 1.0, 0),
    ("first and last", (1, 0, 1), 5 / 6, 19 / 24, 2 / 3, 0),
    ("every second", (0, 1, 0, 1), 0.5, 1 / 3, 0.5, 1),
    ("last of three", (0, 0, 1), 1 / 3, 1 / 6, 1 / 3, 2),
    ("all", (1, 1, 1), 1.0, 1.0, 1.0, 0),
    ("two behind one", (0, 1, 1), 7 / 12, 0.5 * (0.25 + 7 / 12), 2 / 3, 1),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, ">f4"])
@pytest.mark.parametrize(
    ("rel", "ap", "trapezoid", "inp", "first"), [r[1:] for r in ONE_QUERY], ids=[r[0] for r in ONE_QUERY]
)
def test_one_query_by_hand(backend, dtype, rel, ap, trapezoid, inp, first):
    distmat = np.arange(len(rel)).astype(dtype)[None]
    ranks = eval_lib.rank_queries(distmat, [1], [1 if r else 2 for r in rel], [0], [1] * len(rel), backend=backend)
    assert ranks.backend == backend
    assert ranks.ap[0] == pytest.approx(ap, abs=1e-15)
    assert ranks.ap_trapezoid[0] == pytest.approx(trapezoid, abs=1e-15)
    assert ranks.inp[0] == pytest.approx(inp, abs=1e-15)
    assert ranks.first_hit[0] == first
    assert ranks.num_matches[0] == sum(rel)
    expected_cmc = [float(any(rel[: k + 1])) for k in range(10)]  # beyond the gallery the last value goes on
    assert ranks.cmc(10).tolist() == expected_cmc


def test_the_figures_of_the_specification():
    figures = {rel: (ap, trapezoid) for _, rel, ap, trapezoid, _, _ in ONE_QUERY}
    assert [round(v, 6) for v in figures[(0, 1, 0, 1)]] == [0.5, 0.333333]
    assert [round(v, 6) for v in figures[(1, 0, 1)]] == [0.833333, 0.791667]


@pytest.mark.parametrize("backend", BACKENDS)
def test_short_gallery_keeps_the_last_value(backend):
    """Published Cython evaluators return 1, 0, 0, 0 here."""
    ranks = eval_lib.rank_queries([[0.3, 0.1]], [5], [5, 5], [0], [1, 0], backend=backend)
    assert ranks.cmc(4).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert ranks.num_dropped.tolist() == [1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_queries_do_not_leak_into_each_other(backend):
    """A query with many images before one with few: nothing of the first may be left over."""
    distmat = np.array([[5.0, 4.0, 3.0, 2.0, 1.0], [0.0, 9.0, 9.0, 9.0, 9.0]])
    ranks = eval_lib.rank_queries(distmat, [1, 2], [2, 1, 1, 3, 3], [0, 0], [1] * 5, backend=backend)
    assert ranks.first_hit.tolist() == [2, 0]
    assert ranks.cmc(3).tolist() == [0.5, 0.5, 1.0]
    assert ranks.ap.tolist() == [pytest.approx((1 / 3 + 2 / 4) / 2), 1.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_camera_and_junk_are_left_out(backend):
    #        junk  same view  match  distractor  same camera, other identity
    g_pids = [-1, 7, 7, 0, 8]
    g_camids = [3, 2, 1, 2, 2]
    distmat = [[0.0, 0.1, 0.5, 0.4, 0.3]]
    ranks = eval_lib.rank_queries(distmat, [7], g_pids, [2], g_camids, backend=backend)
    assert ranks.first_hit.tolist() == [2]
    assert (ranks.num_junk, ranks.num_dropped.tolist(), ranks.num_matches.tolist()) == (1, [1], [1])
    ranks = eval_lib.rank_queries(distmat, [7], g_pids, [2], g_camids, backend=backend, drop_same_camera=False)
    assert ranks.first_hit.tolist() == [0]
    assert (ranks.num_dropped.tolist(), ranks.num_matches.tolist()) == ([0], [2])
    assert ranks.ap[0] == pytest.approx((1 + 2 / 4) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_are_counted_against_the_match(backend):
    """Distances 1 1 1 2 2; matches at 1, 2 and 2: the first stands behind two, the others behind three and one."""
    ranks = eval_lib.rank_queries([[1, 1, 1, 2, 2, 2]], [4], [4, 5, 6, 4, 4, 9], [0], [1] * 6, backend=backend)
    assert ranks.first_hit.tolist() == [2]
    assert ranks.num_tied.tolist() == [3]
    assert ranks.ap[0] == pytest.approx((1 / 3 + 2 / 5 + 3 / 6) / 3)
    assert ranks.tie_share == 1.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_matches_at_one_distance_are_no_tie(backend):
    ranks = eval_lib.rank_queries([[1, 1, 3]], [4], [4, 4, 5], [0], [1] * 3, backend=backend)
    assert (ranks.num_tied.tolist(), ranks.ap.tolist()) == ([0], [1.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_collapsed_embedding_scores_nothing(backend):
    rng = np.random.default_rng(0)
    g_pids = np.repeat(np.arange(20), 5)
    q_pids = np.arange(20)
    ranks = eval_lib.rank_queries(np.zeros((20, 100)), q_pids, g_pids, [0] * 20, [1] * 100, backend=backend)
    assert ranks.cmc(95).tolist() == [0.0] * 95
    assert ranks.tie_share == 1.0
    order = rng.permutation(100)
    again = eval_lib.rank_queries(np.zeros((20, 100)), q_pids, g_pids[order], [0] * 20, [1] * 100, backend=backend)
    assert again.mAP == ranks.mAP


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("value", "words"), [(np.inf, "is infinite"), (-np.inf, "is minus infinity"), (np.nan, "is NaN")]
)
def test_a_distance_that_is_not_finite_is_an_error(backend, value, words):
    """Wherever it stands: at a match, a non-match, junk, or beyond everything that is counted."""
    for column in range(5):
        table = np.array([[0.0] * 5, [0.1, 0.2, 0.3, 9.0, 0.5]])
        table[1, column] = value
        with pytest.raises(eval_lib.NotFiniteError, match=rf"distmat\[1, {column}\] {words}"):
            eval_lib.rank_queries(table, [1, 1], [1, 2, -1, 3, 1], [0, 0], [1] * 4 + [0], backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_queries_without_a_match_are_skipped_and_counted(backend):
    ranks = eval_lib.rank_queries([[0.1, 0.2], [0.1, 0.2]], [1, 9], [1, 2], [0, 0], [1, 1], backend=backend)
    assert ranks.valid.tolist() == [True, False]
    assert ranks.mAP == 1.0
    assert ranks.first_hit.tolist() == [0, -1]
    assert math.isnan(ranks.ap[1]) and math.isnan(ranks.ap_trapezoid[1]) and math.isnan(ranks.inp[1])
    assert ranks.cmc(2).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_junk_query_matches_no_junk_image(backend):
    ranks = eval_lib.rank_queries([[0.1, 0.2], [0.1, 0.2]], [-1, 2], [-1, 2], [0, 0], [1, 1], backend=backend)
    assert ranks.valid.tolist() == [False, True]


def test_wrappers_return_what_the_field_expects():
    """The three names with the reference's argument order."""
    args = ([[0.2, 0.1, 0.3], [0.1, 0.2, 0.3]], [1, 2], [1, 2, 1], [0, 0], [1, 1, 1])
    expected = [0.0, 1.0, 1.0]
    for cmc, mean_ap in (
        eval_lib.eval_market1501_wrap(*args, 3),
        eval_lib.evaluate_rank(*args, max_rank=3),
        eval_lib.evaluate_rank(*args, 3, False),
    ):
        assert cmc.dtype == np.float64
        assert cmc.tolist() == expected
        assert mean_ap == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 2) / 2)
    assert len(eval_lib.evaluate_rank(*args)[0]) == 50


def test_single_shot_by_hand():
    """Identity 1 shows an image at 1 or at 3, identity 2 one at 2: half of the draws hit first, all hit by rank 2."""
    args = ([[1.0, 3.0, 2.0, 0.0]], [1], [1, 1, 2, 1], [0], [1, 1, 1, 0])
    cmc, mean_ap = eval_lib.eval_cuhk03_wrap(*args, 3, seed=4, repeats=4000)
    assert cmc[0] == pytest.approx(0.5, abs=0.03)
    assert cmc[1:].tolist() == [1.0, 1.0]
    assert mean_ap == pytest.approx((1 + 2 / 3) / 2)  # of the full gallery
    assert eval_lib.evaluate_rank(*args, 3, use_metric_cuhk03=True)[1] == mean_ap
    again, _ = eval_lib.eval_cuhk03_wrap(*args, 3, seed=4, repeats=4000)
    other, _ = eval_lib.eval_cuhk03_wrap(*args, 3, seed=5, repeats=4000)
    assert again.tolist() == cmc.tolist()
    assert other.tolist() != cmc.tolist()
    same, _ = eval_lib.evaluate_rank(*args, 3, True, seed=5, repeats=4000)
    assert same.tolist() == other.tolist()
    with pytest.raises(TypeError, match="positional"):
        eval_lib.evaluate_rank(*args, 3, True, 5)


def test_single_shot_draws_anew_for_every_query():
    """Forty equal queries and a single draw: with a draw of its own each, about half of them hit first."""
    cmc, _ = eval_lib.eval_cuhk03_wrap([[1.0, 3.0, 2.0]] * 40, [1] * 40, [1, 1, 2], [0] * 40, [1, 1, 1], 2, repeats=1)
    assert 0.2 < cmc[0] < 0.8


def test_single_shot_counts_ties_against_the_match():
    cmc, _ = eval_lib.eval_cuhk03_wrap([[1.0, 1.0, 1.0]], [1], [1, 2, 3], [0], [1, 1, 1], 4, repeats=7)
    assert cmc.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_single_shot_leaves_the_global_generator_alone():
    np.random.seed(3)  # noqa: NPY002 the point is that nobody touches it
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    eval_lib.eval_cuhk03_wrap([[1.0, 2.0]], [1], [1, 2], [0], [1, 1], 4)
    assert np.random.random() == expected  # noqa: NPY002
