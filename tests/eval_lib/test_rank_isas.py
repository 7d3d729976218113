"""Every instruction set of this machine, forced in turn, against the definition: to the bit, on what vectors get wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eval_lib

pytestmark = pytest.mark.skipif(
    bool(eval_lib.why_missing()), reason=f"compiled ranking is missing: {eval_lib.why_missing()}"
)
ISAS = []
if not eval_lib.why_missing():
    from eval_lib import _rank

    ISAS = list(_rank.isas())
FIELDS = ("first_hit", "ap", "ap_trapezoid", "inp", "num_matches", "num_tied", "num_dropped")
# Around the widths of vectors (4, 8, 16), of groups of them, and of the blocks of csrc/count.hpp (512).
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 511, 512, 513, 1023, 1025, 1537, 3000]
# Around the limits between the ways of counting (3, 7, 12, 15, 30, 45) and far beyond.
MATCHES = [1, 2, 3, 4, 5, 7, 8, 12, 13, 15, 16, 22, 23, 30, 31, 45, 46, 100, 300]


def distances(rng, kind, shape):
    """Distances of a kind that is hard for comparisons, for lanes or for the map to buckets."""
    if kind == "uniform":
        return rng.random(shape)
    if kind == "few values":
        return rng.integers(0, 4, shape) / 4
    if kind == "all equal":
        return np.full(shape, 0.5)
    if kind == "huge":
        return rng.choice([-1, 1], shape) * 10.0 ** rng.uniform(30, 38.4, shape)
    if kind == "denormal":
        return rng.integers(-9, 9, shape) * 1.4e-45
    if kind == "zeros":
        return rng.choice([0.0, -0.0, 1e-45, -1e-45], shape)
    if kind == "neighbours":  # one ulp apart
        return 1 + rng.integers(0, 40, shape) * 2.0**-23
    assert kind == "far apart"  # almost all share one bucket
    return np.where(rng.random(shape) < 0.01, 1e30, rng.random(shape))


KINDS = ["uniform", "few values", "all equal", "huge", "denormal", "zeros", "neighbours", "far apart"]


def table(seed, kind, columns, matches, junk, dtype):
    """Three queries of one identity with about ``matches`` images of it, a fifth of them seen by the query's camera."""
    rng = np.random.default_rng(seed)
    distmat = distances(rng, kind, (3, columns)).astype(dtype)
    g_pids = rng.integers(2, 60, columns)
    g_pids[rng.permutation(columns)[: min(matches, columns)]] = 1
    if junk:
        g_pids[rng.random(columns) < 0.2] = -1
    g_camids = rng.integers(0, 5, columns)
    return distmat, np.array([1, 2, 1]), g_pids, np.array([0, 1, 5]), g_camids


def assert_same(ranks, expected, what=""):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(ranks, name), getattr(expected, name), err_msg=f"{name} {what}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_every_length_and_number_of_matches(isa, dtype, kind, monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", isa)
    rng = np.random.default_rng(3)
    for seed, columns in enumerate(LENGTHS):
        for matches in rng.choice(MATCHES, 3):
            one = table(seed, kind, columns, int(matches), bool(seed % 2), dtype)
            try:
                expected = eval_lib.rank_queries(*one, backend="python")
            except eval_lib.NoMatchError:
                with pytest.raises(eval_lib.NoMatchError):
                    eval_lib.rank_queries(*one, backend="native")
                continue
            assert_same(eval_lib.rank_queries(*one, backend="native"), expected, f"{columns} {matches}")


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.integers(1, 2100),
    st.integers(1, 300),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_all_instruction_sets_equal_the_definition(seed, kind, columns, matches, junk, drop, dtype):
    one = table(seed, kind, columns, matches, junk, dtype)
    try:
        expected = eval_lib.rank_queries(*one, drop_same_camera=drop, backend="python")
    except eval_lib.NoMatchError:
        return
    with pytest.MonkeyPatch.context() as patch:
        for isa in ISAS:
            patch.setenv("REID_CORE_ISA", isa)
            assert_same(eval_lib.rank_queries(*one, drop_same_camera=drop, backend="native"), expected, isa)


@pytest.mark.parametrize("isa", ISAS)
def test_a_count_by_hand_over_many_blocks(isa, monkeypatch):
    """Column j lies at distance j; matches at 10, 500 and 4,000 see all columns before them that are no match."""
    monkeypatch.setenv("REID_CORE_ISA", isa)
    g_pids = np.full(5000, 2)
    g_pids[[10, 500, 4000]] = 1
    order = np.random.default_rng(0).permutation(5000)
    for dtype in (np.float32, np.float64):
        ranks = eval_lib.rank_queries(order[None].astype(dtype), [1], g_pids[order], [0], [1] * 5000, backend="native")
        assert ranks.first_hit.tolist() == [10]
        assert ranks.ap[0] == pytest.approx((1 / 11 + 2 / 501 + 3 / 4001) / 3, abs=1e-15)
        assert ranks.num_tied.tolist() == [0]


@pytest.mark.parametrize("isa", ISAS)
def test_one_tie_is_found_anywhere(isa, monkeypatch):
    """One non-match at exactly the distance of the k-th of R matches: in every position of a vector and of the tree."""
    monkeypatch.setenv("REID_CORE_ISA", isa)
    rng = np.random.default_rng(1)
    for dtype in (np.float32, np.float64):
        for matches in (1, 3, 5, 7, 9, 15, 20, 40, 70):
            for _ in range(12):
                row = rng.permutation(1200).astype(dtype)
                columns = rng.permutation(1200)[: matches + 1]
                g_pids = np.full(1200, 2)
                g_pids[columns[:-1]] = 1
                row[columns[-1]] = row[columns[rng.integers(matches)]]
                ranks = eval_lib.rank_queries(row[None], [1], g_pids, [0], [1] * 1200, backend="native")
                assert ranks.num_tied.tolist() == [1], (dtype, matches)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_anywhere(isa, value, monkeypatch):
    """In a vector, in the numbers behind the last one, in a match, in junk, for a query that has no match."""
    monkeypatch.setenv("REID_CORE_ISA", isa)
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64):
        for columns in (1, 3, 17, 513, 1030):
            g_pids = rng.integers(-1, 4, columns)
            g_pids[0] = 1
            for column in {0, columns - 1, int(rng.integers(columns)), int(rng.integers(columns))}:
                for pid in (1, 99, -1):
                    distmat = rng.random((3, columns)).astype(dtype)
                    distmat[1, column] = value
                    with pytest.raises(eval_lib.NotFiniteError) as caught:
                        eval_lib.rank_queries(
                            distmat, [1, pid, 1], g_pids, [0] * 3, rng.integers(0, 2, columns), backend="native"
                        )
                    assert (caught.value.row, caught.value.column) == (1, column)
                    np.testing.assert_equal(caught.value.value, value)


def test_the_largest_finite_distances_are_none_of_these():
    for dtype in (np.float32, np.float64):
        top = np.finfo(dtype).max
        distmat = np.array([[top, -top, 0, top]], dtype=dtype)
        ranks = eval_lib.rank_queries(distmat, [1], [1, 2, 1, 2], [0], [1] * 4, backend="native")
        assert ranks.ap[0] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_an_instruction_set_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", "abacus")
    with pytest.raises(ValueError, match="REID_CORE_ISA is 'abacus'; this machine has plain"):
        eval_lib.rank_queries([[0.1, 0.2]], [1], [1, 2], [0], [1, 1], backend="native")


def test_the_compiled_part_refuses_arrays_that_do_not_fit():
    ids = np.zeros(4, np.int64)
    gallery = _rank.Gallery(ids, ids)
    good = [np.zeros((2, 4), np.float32), ids[:2], ids[:2], True, 0, np.zeros((2, 4), np.int64), np.zeros((2, 3))]
    assert gallery.rank_float32(*good) == (-1, -1)
    bad = {
        0: np.zeros((2, 5), np.float32),
        1: ids[:1],
        2: ids[:3],
        4: 17,
        5: np.zeros((2, 3), np.int64),
        6: np.zeros((1, 3)),
    }
    for position, value in bad.items():
        with pytest.raises(ValueError):
            gallery.rank_float32(*(value if k == position else one for k, one in enumerate(good)))
    with pytest.raises(ValueError):
        _rank.Gallery(ids, ids[:2])
    with pytest.raises(ValueError):
        _rank.Gallery(ids[:0], ids[:0])
