"""The k nearest by tiles: against a full stable sort, over the edges of tiles and panels, with and without ties."""

import numpy as np
import pytest

from reid_core.errors import NumericalError, UsageError
from reid_core.metrics._nearest import _key, _similarity, nearest_among, nearest_of_all
from reid_core.metrics._unit_rows import Rows, UnitRows, buffer


def signs(rng, rows, width=16):
    """Rows of +1 and -1, width a power of 4: unit vectors and their products are exact, and most products are tied."""
    return rng.choice([-1.0, 1.0], (rows, width)).astype(np.float32)


def by_sorting(similarity, k):
    index = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(similarity, index, axis=1)


@pytest.mark.parametrize("rows", [1, 5, 511, 512, 513, 2047, 2100])
@pytest.mark.parametrize("k", [1, 4, 21])
def test_all_among_themselves(rows, k):
    rng = np.random.default_rng(rows)
    k = min(k, rows)
    split = int(rng.integers(rows))
    matrix = signs(rng, rows)
    images = UnitRows(Rows("a", matrix[:split]), Rows("b", matrix[split:])) if split else UnitRows(Rows("b", matrix))
    similarity = matrix @ matrix.T / 16
    seen = np.full((rows, rows), np.nan)

    def sink(row, column, scores):
        seen[row : row + scores.shape[0], column : column + scores.shape[1]] = scores

    nearest, smallest = nearest_of_all(images, k, sink)
    index, score = by_sorting(similarity, k)
    np.testing.assert_array_equal(nearest.index, index)
    np.testing.assert_array_equal(nearest.similarity, score)
    np.testing.assert_array_equal(smallest, similarity.min(axis=1))
    above = np.triu_indices(rows)
    np.testing.assert_array_equal(seen[above], similarity[above])


@pytest.mark.parametrize("order", ["random", "nearest last", "nearest first", "all the same"])
def test_whatever_the_order_in_which_neighbours_come(order):
    rng = np.random.default_rng(1)
    angle = {
        "random": rng.permutation(2600),
        "nearest last": np.arange(2600)[::-1] ** 2 / 2600,
        "nearest first": np.arange(2600),
        "all the same": np.zeros(2600),
    }[order] / 2600
    matrix = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    images = UnitRows(Rows("image", matrix))
    tiles = {}
    nearest, _ = nearest_of_all(images, 7, lambda row, column, scores: tiles.update({(row, column): scores.copy()}))
    similarity = np.empty((2600, 2600), np.float32)
    for (row, column), scores in tiles.items():
        similarity[row : row + scores.shape[0], column : column + scores.shape[1]] = scores
    similarity = np.triu(similarity) + np.triu(similarity, 1).T
    index, score = by_sorting(similarity, 7)
    np.testing.assert_array_equal(nearest.index, index)
    np.testing.assert_array_equal(nearest.similarity, score)


@pytest.mark.parametrize(("rows", "others", "k"), [(1, 1, 1), (3, 700, 9), (2100, 1025, 5), (5, 4, 4)])
def test_among_others(rows, others, k):
    rng = np.random.default_rng(rows)
    left, right = signs(rng, rows), signs(rng, others)
    nearest = nearest_among(UnitRows(Rows("query", left)), UnitRows(Rows("gallery", right)), k)
    index, score = by_sorting(left @ right.T / 16, k)
    np.testing.assert_array_equal(nearest.index, index)
    np.testing.assert_array_equal(nearest.similarity, score)


def test_keys_order_similarities_and_indices():
    falling = np.array(
        [np.inf, 1.5, 1, np.nextafter(1, 0, dtype=np.float32), 1e-45, 0, -1e-45, -0.3, -1, -2], np.float32
    )
    keys = [_key(falling[i : i + 1], np.array([index]))[0] for i in range(10) for index in (0, 7, 2**31 - 1)]
    assert keys == sorted(keys) and len(set(keys)) == 30
    assert _similarity(np.array(keys)).tolist() == np.repeat(falling, 3).tolist()
    assert [key.astype(np.int32) for key in keys[:3]] == [0, 7, 2**31 - 1]
    zeros = _key(np.array([0.0, -0.0], np.float32), np.array([4, 3]))
    assert zeros[1] == zeros[0] - 1, "zero is zero, whatever its sign"


def test_same_rows_are_equally_near_wherever_they_stand():
    """Ties of copies rest on products that do not depend on the place in a tile, nor on the tile."""
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(1300, 33)).astype(np.float32)
    matrix[[700, 1299]] = matrix[3]
    nearest, _ = nearest_of_all(UnitRows(Rows("image", matrix)), 3)
    assert nearest.index[[3, 700, 1299]].tolist() == [[3, 700, 1299]] * 3
    assert len(set(nearest.similarity[[3, 700, 1299]].ravel().tolist())) == 1


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.int8, 1), (np.float16, 1), *((t, s) for t in (np.float32, np.float64) for s in (1, 1e-30, 1e30))],
)
def test_unit_rows(dtype, scale):
    one, two = np.array([[3, 4], [0, 2]], dtype) * dtype(scale), np.array([[-5, 0]], dtype) * dtype(scale)
    expected = [[0.6, 0.8], [0, 1], [-1, 0], [0, 0]]
    images = UnitRows(Rows("query", one), Rows("gallery", two))
    assert len(images) == 3
    for start in range(3):
        tile = images.tile(start, buffer(2, 3))
        np.testing.assert_allclose(tile, [*expected[start:], [0, 0], [0, 0]][:3], atol=1e-7)
    picked = images.pick(np.array([2, 0, 2]))
    np.testing.assert_allclose(picked, [expected[i] for i in (2, 0, 2)], atol=1e-7)
    assert picked.dtype == tile.dtype == np.float32


def test_huge_and_tiny_beyond_squares():
    images = UnitRows(Rows("query", np.array([[1e300, 1e300], [3e-300, 4e-300]])))
    np.testing.assert_allclose(images.tile(0, buffer(2, 2)), [[0.5**0.5] * 2, [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_so_short_that_one_through_their_length_is_infinite(dtype):
    tiny = np.array([3, 4], dtype) * np.finfo(dtype).smallest_subnormal
    images = UnitRows(Rows("query", np.array([[1, 1], tiny], dtype)))
    for found in (images.tile(0, buffer(2, 2)), images.pick(np.arange(2))):
        np.testing.assert_allclose(found, [[0.5**0.5] * 2, [0.6, 0.8]], rtol=1e-6)


def test_bad_rows_are_named():
    good, bad = np.ones((600, 3)), np.ones((700, 3))
    bad[650, 1] = np.inf
    with pytest.raises(NumericalError, match=r"gallery image 650 \(650.jpg\) is not finite \(1 such rows of 700\)"):
        UnitRows(Rows("query", good), Rows("gallery", bad, [f"{i}.jpg" for i in range(700)]))
    bad[650] = 0
    with pytest.raises(NumericalError, match="gallery image 650 is all zeros"):
        UnitRows(Rows("gallery", bad))
    with pytest.raises(UsageError, match="query 3, gallery 4 numbers"):
        UnitRows(Rows("query", good), Rows("gallery", np.ones((2, 4))))
    for wrong in (np.ones(3), np.ones((2, 0)), np.ones((2, 3), complex), np.array([["a"]])):
        with pytest.raises(UsageError, match=r"query embeddings must be \(N, D\) real"):
            UnitRows(Rows("query", wrong))
    with pytest.raises(UsageError, match="there is no query embedding"):
        UnitRows(Rows("query", np.ones((0, 3))))
    with pytest.raises(UsageError, match="1 names were given for 600"):
        UnitRows(Rows("query", good, ["a"]))
