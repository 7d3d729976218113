"""Distances: by hand, against loops in float64, the same whatever the block, and no row without a direction."""

import math
from fractions import Fraction

import numpy as np
import pytest

from eval_lib import _native
from reid_core.errors import NumericalError, UsageError
from reid_core.metrics._products import multiply, pack
from reid_core.metrics.distance import distance_matrix


def test_cosine_by_hand():
    query, gallery = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, -4.0], [6.0, 8.0]])
    distmat = distance_matrix(query, gallery)
    assert distmat.dtype == np.float32
    np.testing.assert_allclose(distmat, [[-0.6, -0.8, 1.0, -1.0]], rtol=0, atol=1e-7)


def test_euclidean_by_hand():
    distmat = distance_matrix(np.array([[1.0, 2.0]]), np.array([[4.0, 6.0], [1.0, 2.0]]), "euclidean")
    assert distmat.tolist() == [[5.0, 0.0]]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("width", [7, 64, 70])
def test_against_loops(metric, dtype, width):
    """Lengths are summed up 64 numbers at a time: fewer, as many, and some beyond."""
    rng = np.random.default_rng(0)
    query, gallery = (rng.normal(size=(n, width)).astype(dtype) for n in (5, 6))
    expected = np.empty((5, 6))
    for i, q in enumerate(query.astype(float).tolist()):
        for j, g in enumerate(gallery.astype(float).tolist()):
            if metric == "cosine":
                expected[i, j] = -sum(a * b for a, b in zip(q, g)) / math.hypot(*q) / math.hypot(*g)
            else:
                expected[i, j] = math.dist(q, g)
    np.testing.assert_allclose(distance_matrix(query, gallery, metric), expected, rtol=2e-6, atol=2e-7)


def test_near_images_far_from_the_origin_keep_their_distance():
    """Squares of 1e4 in float32 would leave nothing of a difference of 0.01."""
    query = np.full((1, 4), 1e4)
    gallery = query + np.array([[0.01, 0, 0, 0], [0.02, 0, 0, 0]])
    np.testing.assert_allclose(distance_matrix(query, gallery, "euclidean"), [[0.01, 0.02]], rtol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("width", [5, 64, 300])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_pair_does_not_depend_on_its_company(metric, width, compiled, monkeypatch):
    """Any subset, any order, any position in a tile: the same bits; and equal images are equally far from all others."""
    if compiled and _native.product() is None:
        pytest.skip("the compiled product is missing")
    if not compiled:
        monkeypatch.setattr(_native, "product", lambda: None)
    rng = np.random.default_rng(1)
    query, gallery = (rng.normal(size=(n, width)).astype(np.float32) for n in (800, 1100))
    gallery[::3] = gallery[0]
    whole = distance_matrix(query, gallery, metric)
    assert (whole[:, ::3] == whole[:, :1]).all()
    rows, columns = rng.permutation(800), rng.permutation(1100)
    np.testing.assert_array_equal(distance_matrix(query[rows], gallery[columns], metric), whole[rows][:, columns])
    for some in (1, 7, 512, 513):
        part = distance_matrix(query[5:12], gallery[:some], metric)
        np.testing.assert_array_equal(part, whole[5:12, :some])


def test_without_the_compiled_product_nothing_is_rounded(monkeypatch):
    """Unit vectors on a grid so coarse that their products are exact: NumPy may add up in any order."""
    monkeypatch.setattr(_native, "product", lambda: None)
    rows = np.random.default_rng(8).normal(size=(30, 50))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    left, right = pack(rows, False), pack(rows, True)
    np.testing.assert_allclose(left.rows, rows, rtol=0, atol=1e-8)
    found = np.empty((30, 30))
    multiply(left, right, found)
    exact = [[sum(Fraction(a) * Fraction(b) for a, b in zip(p, q)) for q in right.rows] for p in left.rows]
    assert found.tolist() == exact


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_without_the_compiled_product_only_roundings_differ(dtype, monkeypatch):
    rng = np.random.default_rng(4)
    query, gallery = ((rng.normal(size=(n, 40)) * 9).astype(dtype) for n in (30, 70))
    found = [distance_matrix(query, gallery, metric) for metric in ("cosine", "euclidean")]
    monkeypatch.setattr(_native, "product", lambda: None)
    for one, metric in zip(found, ("cosine", "euclidean")):
        np.testing.assert_allclose(one, distance_matrix(query, gallery, metric), rtol=2e-7, atol=3e-7)


def test_an_image_has_no_distance_to_itself():
    rows = np.random.default_rng(5).normal(size=(40, 130)) * 1e3
    assert (distance_matrix(rows, rows, "euclidean").diagonal() == 0).all()


def test_near_images_have_a_distance():
    """Rounding makes some squared distances negative; a root of these would be no number."""
    rows = 1e8 + np.random.default_rng(7).normal(size=(60, 5))
    distmat = distance_matrix(rows, rows + 1e-7, "euclidean")
    assert (distmat >= 0).all()
    assert _native.product() is None or (distmat == 0).any()  # else differences are squared, which cannot be negative


def test_rows_that_lie_apart_or_backwards():
    rng = np.random.default_rng(6)
    query, gallery = (rng.normal(size=(n, 20)).astype(np.float32) for n in (9, 33))
    whole = distance_matrix(query, gallery)
    np.testing.assert_array_equal(distance_matrix(query[::-1], np.asfortranarray(gallery)), whole[::-1])
    np.testing.assert_array_equal(distance_matrix(query[::2], np.repeat(gallery, 2, axis=1)[:, ::2]), whole[::2])
    query.setflags(write=False)
    np.testing.assert_array_equal(distance_matrix(query, gallery), whole)
    # Numbers between float32's places, and rows an odd number of bytes apart.
    shifted = np.frombuffer(b"x" + query.tobytes(), np.uint8)[1:].view(np.float32).reshape(query.shape)
    record = np.zeros(len(query), np.dtype([("row", np.float32, 20), ("label", np.uint16)]))
    record["row"] = query
    for table in (shifted, record["row"]):
        np.testing.assert_array_equal(distance_matrix(table, gallery), whole)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_bad_rows_are_named_with_their_image(metric):
    rng = np.random.default_rng(3)
    for _ in range(50):
        query, gallery = rng.normal(size=(20, 8)).astype(np.float32), rng.normal(size=(30, 8)).astype(np.float32)
        row = int(rng.integers(30))
        gallery[row, int(rng.integers(8))] = rng.choice([np.nan, np.inf, -np.inf])
        names = [f"gallery/{j:04d}.jpg" for j in range(30)]
        with pytest.raises(NumericalError, match=rf"gallery image {row} \(gallery/{row:04d}.jpg\) is not finite"):
            distance_matrix(query, gallery, metric, gallery_names=names)
    query[4] = 0
    with pytest.raises(NumericalError, match=r"query image 4 is all zeros \(1 such rows of 20\)"):
        distance_matrix(query, np.ones((2, 8)), metric)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_rows_are_rows_all_the_same(size):
    query = np.array([[size, 0], [size, size]], dtype=np.float32)
    np.testing.assert_allclose(distance_matrix(query, query), [[-1, -(0.5**0.5)], [-(0.5**0.5), -1]], atol=1e-6)


@pytest.mark.parametrize("size", [1e-42, 3e38])
def test_rows_whose_length_or_its_reciprocal_float32_lacks(size):
    """4,096 equal numbers make entries of 1/64, of which all products are exact."""
    rows = np.full((3, 4096), size, np.float32)
    rows[1] *= -1
    rows[2, ::2] *= -1
    assert distance_matrix(rows, rows).tolist() == [[-1, 1, 0], [1, -1, 0], [0, 0, -1]]


def test_rows_beyond_float32_have_a_direction():
    query, gallery = np.array([[3e300, 4e300]]), np.array([[1e-300, 0], [0, 1e300], [-3e-300, -4e-300]])
    np.testing.assert_allclose(distance_matrix(query, gallery), [[-0.6, -0.8, 1]], rtol=1e-6)


def test_shapes_are_checked():
    with pytest.raises(UsageError, match="query embeddings have 3 numbers, gallery embeddings 4"):
        distance_matrix(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(UsageError, match=r"must be \(N, D\)"):
        distance_matrix(np.ones(3), np.ones((2, 3)))
    with pytest.raises(UsageError, match="unknown distance"):
        distance_matrix(np.ones((2, 3)), np.ones((2, 3)), "manhattan")
    with pytest.raises(UsageError, match="1 names were given for 2 query"):
        distance_matrix(np.ones((2, 3)), np.ones((2, 3)), query_names=["a"])


def test_progress_ends_at_the_total():
    calls = []
    distance_matrix(np.ones((1800, 2)), np.ones((1100, 2)), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
