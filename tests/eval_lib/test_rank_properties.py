"""Properties on random tables: compiled = definition = a count by loops that shares no code with either."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eval_lib

HAS_NATIVE = not eval_lib.why_missing()
FIELDS = ("first_hit", "ap", "ap_trapezoid", "inp", "num_matches", "num_tied", "num_dropped")


@st.composite
def tables(draw):
    """Few identities, cameras and distances, so that ties, junk, short galleries and empty queries are common."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    levels = draw(st.sampled_from([1, 3, 1000]))
    number = st.integers(0, levels).map(lambda v: v / 8 - 1)
    integers = lambda low, high, size: draw(st.lists(st.integers(low, high), min_size=size, max_size=size))  # noqa: E731
    distmat = np.array([draw(st.lists(number, min_size=columns, max_size=columns)) for _ in range(rows)])
    distmat = distmat.astype(draw(st.sampled_from([np.float32, np.float64])))
    ids = (integers(-1, 3, rows), integers(-1, 3, columns), integers(0, 2, rows), integers(0, 2, columns))
    return distmat, *(np.array(values, dtype=np.int64) for values in ids)


def brute_force(row, pid, camid, g_pids, g_camids, drop_same_camera):
    """Exact fractions from pairwise comparisons: the rank of a match is the number of kept images that beat it."""
    kept = [
        j
        for j in range(len(row))
        if g_pids[j] != -1 and not (drop_same_camera and g_pids[j] == pid and g_camids[j] == camid)
    ]
    matches = [j for j in kept if g_pids[j] == pid]
    others = [j for j in kept if g_pids[j] != pid]
    if not matches:
        return None
    ranks = sorted(
        sum(row[o] <= row[m] for o in others) + sum(row[n] < row[m] or (row[n] == row[m] and n < m) for n in matches)
        for m in matches
    )
    step = sum(Fraction(j + 1, i + 1) for j, i in enumerate(ranks)) / len(ranks)
    trapezoid = sum((Fraction(j + 1, i + 1) + (Fraction(j, i) if i else 1)) / 2 for j, i in enumerate(ranks)) / len(
        ranks
    )
    tied = sum(any(row[o] == row[m] for o in others) for m in matches)
    return ranks[0], float(step), float(trapezoid), float(Fraction(len(ranks), ranks[-1] + 1)), len(matches), tied


def ranked(table, **options):
    """rank_queries, or None where no query has a match."""
    try:
        return eval_lib.rank_queries(*table, **options)
    except eval_lib.NoMatchError:
        return None


@settings(max_examples=400, deadline=None)
@given(tables(), st.booleans())
def test_definition_equals_brute_force(table, drop):
    distmat, q_pids, g_pids, q_camids, g_camids = table
    ranks = ranked(table, drop_same_camera=drop, backend="python")
    expected = [
        brute_force(distmat[i].tolist(), q_pids[i], q_camids[i], g_pids.tolist(), g_camids.tolist(), drop)
        for i in range(len(q_pids))
    ]
    if ranks is None:
        assert all(e is None or q_pids[i] == -1 for i, e in enumerate(expected))
        return
    for i, one in enumerate(expected):
        if one is None or q_pids[i] == -1:
            assert ranks.first_hit[i] == -1
            continue
        assert ranks.first_hit[i] == one[0]
        assert [ranks.ap[i], ranks.ap_trapezoid[i], ranks.inp[i]] == pytest.approx(one[1:4], abs=1e-14)
        assert (ranks.num_matches[i], ranks.num_tied[i]) == one[4:]
    hits = [one[0] for i, one in enumerate(expected) if one is not None and q_pids[i] != -1]
    assert ranks.cmc(20).tolist() == pytest.approx([np.mean([h <= k for h in hits]) for k in range(20)], abs=1e-14)


@pytest.mark.skipif(not HAS_NATIVE, reason=f"compiled ranking is missing: {eval_lib.why_missing()}")
@settings(max_examples=400, deadline=None)
@given(tables(), st.booleans(), st.integers(1, 3))
def test_compiled_equals_definition_to_the_bit(table, drop, threads):
    plain = ranked(table, drop_same_camera=drop, backend="python")
    fast = ranked(table, drop_same_camera=drop, backend="native", threads=threads)
    assert (plain is None) == (fast is None)
    if plain is not None:
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(fast, name), getattr(plain, name), err_msg=name)
        assert fast.num_junk == plain.num_junk


@settings(max_examples=200, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_gallery_order_changes_nothing(table, random):
    distmat, q_pids, g_pids, q_camids, g_camids = table
    order = list(range(len(g_pids)))
    random.shuffle(order)
    shuffled = distmat[:, order], q_pids, g_pids[order], q_camids, g_camids[order]
    first, second = ranked(table), ranked(shuffled)
    assert (first is None) == (second is None)
    if first is not None:
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
        one, _ = eval_lib.eval_cuhk03_wrap(*table, 9, repeats=3)
        two, _ = eval_lib.eval_cuhk03_wrap(*shuffled, 9, repeats=3)
        assert one.tolist() == two.tolist()


@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from([-1, 0]), st.lists(st.integers(-8, 8), min_size=1, max_size=4))
def test_junk_adds_nothing_and_distractors_never_raise(table, pid, extra):
    distmat, q_pids, g_pids, q_camids, g_camids = table
    q_pids = np.where(q_pids == 0, 1, q_pids)  # pid 0 stands for the distractors here
    more = np.tile(np.array(extra, dtype=distmat.dtype) / 8, (len(q_pids), 1))
    before = ranked((distmat, q_pids, g_pids, q_camids, g_camids))
    after = ranked(
        (
            np.hstack([distmat, more]),
            q_pids,
            np.append(g_pids, [pid] * len(extra)),
            q_camids,
            np.append(g_camids, [0] * len(extra)),
        )
    )
    assert (before is None) == (after is None)
    if before is None:
        return
    for name in ("ap", "ap_trapezoid", "inp"):
        old, new = getattr(before, name)[before.valid], getattr(after, name)[before.valid]
        assert np.array_equal(old, new) if pid == -1 else (new <= old).all()
    assert (after.cmc(30) <= before.cmc(30)).all()
    if pid == -1:
        assert after.cmc(30).tolist() == before.cmc(30).tolist()


@settings(max_examples=200, deadline=None)
@given(tables(), st.integers(1, 30))
def test_cmc_never_falls_and_stays_within_0_and_1(table, max_rank):
    ranks = ranked(table)
    if ranks is None:
        return
    for cmc in (ranks.cmc(max_rank), eval_lib.eval_cuhk03_wrap(*table, max_rank, repeats=3)[0]):
        assert cmc.shape == (max_rank,)
        assert (np.diff(cmc) >= 0).all() and cmc[0] >= 0 and cmc[-1] <= 1
    assert ranks.cmc(len(table[2]))[-1] == 1  # every valid query has its match somewhere
    for scores in (ranks.ap, ranks.ap_trapezoid, ranks.inp):
        assert ((scores[ranks.valid] >= 0) & (scores[ranks.valid] <= 1)).all()


@settings(max_examples=30, deadline=None)
@given(tables())
def test_single_shot_equals_the_expectation(table):
    """Rank-1 over many draws against its exact probability, from all combinations of one image an identity."""
    distmat, q_pids, g_pids, q_camids, g_camids = table
    if ranked(table) is None:
        return
    probabilities = []
    for i, pid in enumerate(q_pids):
        groups: dict[int, list[float]] = {}
        for j, other in enumerate(g_pids):
            if other != -1 and not (other == pid and g_camids[j] == q_camids[i]):
                groups.setdefault(int(other), []).append(float(distmat[i, j]))
        if pid == -1 or int(pid) not in groups:
            continue
        own = groups.pop(int(pid))
        first = [np.prod([np.mean([d > mine for d in ds]) for ds in groups.values()] or [1.0]) for mine in own]
        probabilities.append(np.mean(first))
    cmc, _ = eval_lib.eval_cuhk03_wrap(*table, 5, seed=1, repeats=2000)
    assert cmc[0] == pytest.approx(np.mean(probabilities), abs=0.06)  # 5 standard errors of one query
