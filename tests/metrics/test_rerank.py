"""Re-ranking: by hand, the definition against matrix algebra, and the fast form against the definition."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from reid_core.errors import NumericalError, UsageError
from reid_core.metrics import _neighbourhoods, rerank
from reid_core.metrics.rerank import k_reciprocal_blocks, k_reciprocal_rerank
from reid_core.metrics.rerank_reference import rerank_dense


def squared_distances(*parts):
    """(N, N) in float64, by another way than products of unit vectors."""
    rows = np.concatenate(parts).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.square(rows[:, None] - rows[None]).sum(axis=2)


def clusters(rng, num_query, num_gallery, width=8, people=6, spread=0.5):
    number = num_query + num_gallery
    rows = rng.normal(size=(people, width))[rng.integers(0, people, number)] + spread * rng.normal(size=(number, width))
    return rows[:num_query].astype(np.float32), rows[num_query:].astype(np.float32)


def by_matrices(distances, num_query, k1, k2, lambda_value):
    """The same sets as boolean matrices, from ranks instead of lists."""
    number = len(distances)
    order = np.argsort(distances, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(number)[None], axis=1)
    scaled = distances / distances.max(axis=1, keepdims=True)
    near, nearer = rank <= k1, rank <= int(np.around(k1 / 2))
    own, half = near & near.T, nearer & nearer.T
    shared = own.astype(float) @ half.T
    accepted = own & (shared > 2.0 / 3 * half.sum(axis=1))
    members = own | (accepted.astype(int) @ half > 0)
    weights = np.where(members, np.exp(-scaled), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    if k2 > 1:
        weights = (rank < k2) @ weights / k2
    least = np.minimum(weights[:num_query, None], weights[None, num_query:]).sum(axis=2)
    most = np.maximum(weights[:num_query, None], weights[None, num_query:]).sum(axis=2)
    return (1 - lambda_value) * (1 - least / most) + lambda_value * scaled[:num_query, num_query:]


def test_by_hand():
    """A query at 0 degrees, gallery at 10, 25 and 180, one neighbour each: the query and 10 degrees find each other."""
    query, *gallery = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 10, 25, 180)]
    near = 2 - 2 * math.cos(math.radians(10))
    to_first, to_query = math.exp(-near / 4), math.exp(-near / (2 + 2 * math.cos(math.radians(10))))
    common = to_first / (1 + to_first) + to_query / (1 + to_query)
    jaccard = 1 - common / (2 - common)
    expected = [
        0.7 * jaccard + 0.3 * near / 4,
        0.7 + 0.3 * (2 - 2 * math.cos(math.radians(25))) / 4,
        1.0,
    ]
    found = k_reciprocal_rerank([query], gallery, k1=1, k2=1)
    assert found.dtype == np.float32 and found.shape == (1, 3)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(rerank_dense(squared_distances([query], gallery), 1, 1, 1)[0], expected, atol=1e-12)


def test_only_neighbours_of_both_sides_count():
    """The nearest of 25 degrees is 10, but not the other way round; with k2 = 2 it leans on 10 all the same."""
    query, *gallery = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 10, 25, 180)]
    alone = k_reciprocal_rerank([query], gallery, k1=1, k2=1, lambda_value=0)[0]
    averaged = k_reciprocal_rerank([query], gallery, k1=1, k2=2, lambda_value=0)[0]
    assert alone[1] == 1 and averaged[1] < 1 and averaged[2] == 1


def random_numbers(rng, images):
    return {
        "k1": int(rng.integers(1, min(24, images))),
        "k2": int(rng.integers(1, min(30, images + 1))),
        "lambda_value": float(rng.choice([0, 1, rng.random()])),
    }


@pytest.mark.parametrize("seed", range(20))
def test_the_definition_against_matrices(seed):
    rng = np.random.default_rng(seed)
    query, gallery = clusters(rng, int(rng.integers(1, 15)), int(rng.integers(1, 60)))
    distances, numbers = squared_distances(query, gallery), random_numbers(rng, len(query) + len(gallery))
    expected = by_matrices(distances, len(query), **numbers)
    np.testing.assert_allclose(rerank_dense(distances, len(query), **numbers), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(60))
def test_small_problems_equal_the_definition(seed):
    rng = np.random.default_rng(seed)
    query, gallery = clusters(rng, int(rng.integers(1, 20)), int(rng.integers(1, 70)), spread=rng.choice([0.2, 0.6, 2]))
    numbers = random_numbers(rng, len(query) + len(gallery))
    expected = rerank_dense(squared_distances(query, gallery), len(query), **numbers)
    np.testing.assert_allclose(k_reciprocal_rerank(query, gallery, **numbers), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(30))
def test_ties_go_to_the_lower_index(seed):
    """Signs as embeddings: products are exact and nearly all neighbours are tied, many rows are copies."""
    rng = np.random.default_rng(seed)
    width = int(rng.choice([1, 4, 16]))
    rows = rng.choice([-1.0, 1.0], (int(rng.integers(2, 80)), width)).astype(np.float32)
    cut = int(rng.integers(1, len(rows)))
    numbers = random_numbers(rng, len(rows))
    expected = rerank_dense(2 - 2 * (rows @ rows.T).astype(np.float64) / width, cut, **numbers)
    found = k_reciprocal_rerank(rows[:cut], rows[cut:], **numbers)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("num_query", "num_gallery", "seed"), [(530, 60, 0), (30, 1100, 1)])
def test_over_the_edges_of_tiles(num_query, num_gallery, seed):
    rng = np.random.default_rng(seed)
    query, gallery = clusters(rng, num_query, num_gallery, width=16, people=30, spread=1.0)
    distances = squared_distances(query, gallery)
    gaps = np.diff(np.sort(distances, axis=1)[:, :24], axis=1)
    assert (gaps[:, [5, 10, 20]] > 5e-7).all(), "neighbours too near to each other for float32: take another seed"
    expected = rerank_dense(distances, num_query)
    whole = k_reciprocal_rerank(query, gallery)
    np.testing.assert_allclose(whole, expected, atol=1e-5, rtol=0)
    pieces = list(k_reciprocal_blocks(query, gallery))
    assert [len(piece) for piece in pieces] == ([512, 18] if num_query == 530 else [30])
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6, rtol=0)


def test_rounding_as_published():
    """Half of k1 to the even number at .5, and "more than two thirds" in whole numbers."""
    assert [round(k / 2) for k in (1, 3, 5, 7, 20)] == [0, 2, 2, 4, 10]
    assert all(round(k / 2) == int(np.around(k / 2)) for k in range(1, 300))
    assert all(
        (3 * shared > 2 * size) == (shared > 2.0 / 3 * size) for size in range(150) for shared in range(size + 1)
    )


def test_a_permuted_gallery_permutes_the_result():
    rng = np.random.default_rng(4)
    query, gallery = clusters(rng, 10, 120)
    order = rng.permutation(120)
    whole = k_reciprocal_rerank(query, gallery)
    np.testing.assert_allclose(k_reciprocal_rerank(query, gallery[order]), whole[:, order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", ["float64", "float16", "scaled", "fortran", "read-only", "list"])
def test_the_kind_of_array_does_not_matter(change):
    query, gallery = (x.astype(np.float16).astype(np.float32) for x in clusters(np.random.default_rng(5), 7, 50))
    other = {
        "float64": lambda x: x.astype(np.float64),
        "float16": lambda x: x.astype(np.float16),
        "scaled": lambda x: x * np.float32(2.0**90),
        "fortran": lambda x: np.asfortranarray(np.repeat(x, 2, axis=0))[::2],
        "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
        "list": lambda x: x.tolist(),
    }[change]
    expected = k_reciprocal_rerank(query, gallery)
    np.testing.assert_allclose(k_reciprocal_rerank(other(query), other(gallery)), expected, atol=2e-6, rtol=0)


def test_a_collapsed_embedding_gives_numbers():
    found = k_reciprocal_rerank(np.ones((30, 3)), np.ones((100, 3)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, found[0, 0], atol=1e-6)
    exact = k_reciprocal_rerank(np.ones((30, 4)), np.ones((100, 4)))
    np.testing.assert_allclose(exact, rerank_dense(np.zeros((130, 130)), 30), atol=1e-6)


def test_a_hub_that_is_near_to_everybody(monkeypatch):
    """One image leads the lists of all others, which are far from each other: its column of weights is full, and few
    queries at a time are as much as fits.
    """
    pieces = []

    def sums(weights, weighed_by, start, rows, real=rerank._sums_of_minima):
        members = weights.indices[weights.indptr[start] : weights.indptr[start + rows]]
        pieces.append((rows, np.diff(weighed_by.indptr)[members].sum()))
        return real(weights, weighed_by, start, rows)

    monkeypatch.setattr(rerank, "_sums_of_minima", sums)
    monkeypatch.setattr(rerank, "_CELLS", 2000)
    rows = np.eye(150) + 0.03 * np.random.default_rng(9).normal(size=(150, 150))
    rows[:, 149] += 1
    query, gallery = rows[:40], rows[40:]
    distances = squared_distances(query, gallery)
    assert (np.argsort(distances, axis=1)[:-1, 1] == 149).mean() > 0.9
    found = k_reciprocal_rerank(query, gallery, k1=5, k2=4)
    np.testing.assert_allclose(found, by_matrices(distances, 40, 5, 4, 0.3), atol=1e-6)
    assert all(rows == 1 or met <= 2000 for rows, met in pieces) and max(pieces)[0] > 1


def test_no_matrix_of_all_pairs_is_kept():
    rng = np.random.default_rng(6)
    query, gallery = clusters(rng, 100, 4900, width=8, people=300)
    tracemalloc.start()
    try:
        k_reciprocal_rerank(query, gallery)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5000 * 5000 * 4 * 0.6


def test_products_of_sparse_matrices_are_cut_where_ctrl_c_can_come_in(monkeypatch):
    """By hand: rows of two, no and three entries, which meet two entries each."""
    left = sparse.csr_array(np.array([[1, 2, 0], [0, 0, 0], [1, 1, 3]]))
    right = sparse.csr_array(np.array([[1, 0, 1], [0, 2, 2], [3, 3, 0]]))
    for work, cuts in ((3, [(0, 1), (1, 2), (2, 3)]), (4, [(0, 2), (2, 3)]), (9, [(0, 2), (2, 3)]), (10, [(0, 3)])):
        monkeypatch.setattr(_neighbourhoods, "_WORK", work)
        assert [(rows.start, rows.stop) for rows in _neighbourhoods.row_blocks(left, right)] == cuts
        np.testing.assert_array_equal(_neighbourhoods.product(left, right).toarray(), (left @ right).toarray())
    query, gallery = clusters(np.random.default_rng(4), 9, 30)
    monkeypatch.setattr(_neighbourhoods, "_WORK", 7)
    small = k_reciprocal_rerank(query, gallery, 8, 3)
    monkeypatch.setattr(_neighbourhoods, "_WORK", 1 << 40)
    np.testing.assert_array_equal(small, k_reciprocal_rerank(query, gallery, 8, 3))


def test_progress_rises_to_its_total():
    query, gallery = clusters(np.random.default_rng(7), 600, 500)
    for run in (k_reciprocal_rerank, lambda *a, **k: list(k_reciprocal_blocks(*a, **k))):
        calls = []
        run(query, gallery, progress=lambda done, total, calls=calls: calls.append((done, total)))
        done, total = zip(*calls)
        assert list(done) == sorted(done) and set(total) == {8} and done[-1] == 8


@pytest.mark.parametrize("function", [k_reciprocal_rerank, k_reciprocal_blocks])
def test_wrong_arguments_are_refused_before_anything_is_computed(function, monkeypatch):
    monkeypatch.setattr("reid_core.metrics.rerank.nearest_of_all", None)
    query, gallery = clusters(np.random.default_rng(8), 5, 20)
    for numbers, message in [
        ({"k1": 25}, "k1 must be less than the 25 images of query and gallery together, got 25"),
        ({"k1": 0}, "k1 must be a whole number of at least 1, got 0"),
        ({"k1": 2.0}, "k1 must be a whole number"),
        ({"k2": 0}, "k2 must be a whole number of at least 1, got 0"),
        ({"k2": 26}, "k2 must be at most the 25 images"),
        ({"k2": True}, "k2 must be a whole number"),
        ({"lambda_value": 1.5}, r"lambda_value must be a number in \[0, 1\], got 1.5"),
        ({"lambda_value": math.nan}, "lambda_value must be a number"),
        ({"lambda_value": "x"}, "lambda_value must be a number"),
    ]:
        with pytest.raises(UsageError, match=message):
            function(query, gallery, **numbers)
    with pytest.raises(UsageError, match="query 8, gallery 7 numbers"):
        function(query, gallery[:, :7])
    gallery[11, 2] = np.nan
    with pytest.raises(NumericalError, match=r"gallery image 11 \(g11\) is not finite"):
        function(query, gallery, gallery_names=[f"g{i}" for i in range(20)])
    with pytest.raises(NumericalError, match="query image 3 is all zeros"):
        function(np.where(np.arange(5)[:, None] == 3, 0, query), np.ones((20, 8)))
