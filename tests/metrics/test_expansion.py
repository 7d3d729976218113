"""Query expansion and database augmentation: by hand, against loops, and what cannot be blended."""

import math

import numpy as np
import pytest

from reid_core.errors import NumericalError, UsageError
from reid_core.metrics.expansion import average_query_expansion, database_augmentation


def unit(vector):
    return np.array(vector) / math.sqrt(sum(float(v) * float(v) for v in vector))


def slow(images, others, k, alpha, skip_itself):
    """The definition, one image at a time in float64."""
    others = [unit(other) for other in others]
    result = []
    for i, image in enumerate(images):
        image = unit(image)
        found = [(-float(other @ image), j) for j, other in enumerate(others) if not (skip_itself and i == j)]
        blend = image.copy()
        for negative, j in sorted(found)[:k]:
            blend += others[j] * (1.0 if alpha == 0 else max(-negative, 0.0) ** alpha)
        result.append(unit(blend))
    return np.array(result)


def test_by_hand():
    gallery = np.array([[0.6, 0.8], [0.0, 2.0], [-1.0, 0.0]])
    query = np.array([[3.0, 0.0]])
    np.testing.assert_allclose(average_query_expansion(query, gallery, 1), [unit([1.6, 0.8])], atol=1e-7)
    # weights 1, 0.6 ** 2 and 0, the third is opposite
    expected = [unit([1 + 0.36 * 0.6, 0.36 * 0.8])]
    np.testing.assert_allclose(average_query_expansion(query, gallery, 3, alpha=2), expected, atol=1e-7)
    # nearest of the others: 1, 0, 1
    expected = [unit([0.6, 1.8]), unit([0.6, 1.8]), unit([-1.0, 1.0])]
    np.testing.assert_allclose(database_augmentation(gallery, 1), expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_against_loops(seed, alpha):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(int(rng.integers(1, 9)), 5)), rng.normal(size=(int(rng.integers(2, 40)), 5))
    k = int(rng.integers(1, len(gallery)))
    found = average_query_expansion(query, gallery, k, alpha)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow(query, gallery, k, alpha, False), atol=2e-6)
    np.testing.assert_allclose(
        database_augmentation(gallery, k, alpha), slow(gallery, gallery, k, alpha, True), atol=2e-6
    )


def test_over_the_edges_of_tiles():
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(520, 6)), rng.normal(size=(530, 6))
    np.testing.assert_allclose(
        average_query_expansion(query, gallery, 3, 3.0), slow(query, gallery, 3, 3.0, False), atol=5e-6
    )
    np.testing.assert_allclose(database_augmentation(gallery, 3), slow(gallery, gallery, 3, 0, True), atol=5e-6)


def test_an_image_that_many_copies_push_from_its_own_list():
    gallery = np.ones((9, 4))
    np.testing.assert_allclose(database_augmentation(gallery, 3), np.full((9, 4), 0.5), atol=1e-7)


def test_a_blend_without_direction_is_refused():
    with pytest.raises(NumericalError, match="query image 1 and its nearest gallery images cancel out"):
        average_query_expansion([[1.0, 0.0], [0.0, 1.0]], [[0.0, -1.0]], 1)
    query = np.tile([1.0, 0.0], (600, 1))
    query[550] = [0.0, 1.0]
    with pytest.raises(NumericalError, match="query image 550 and its nearest"):
        average_query_expansion(query, [[0.0, -1.0]], 1)


def test_progress_ends_at_its_total():
    rng = np.random.default_rng(2)
    query, gallery = rng.normal(size=(2100, 3)), rng.normal(size=(600, 3))
    calls = []
    average_query_expansion(query, gallery, 2, progress=lambda *call: calls.append(call))
    assert calls == [(2048, 2100), (2100, 2100)]
    calls.clear()
    database_augmentation(gallery, 2, progress=lambda *call: calls.append(call))
    assert calls[-1] == (3, 3)


def test_a_power_however_large_leaves_copies_alone():
    """Of images that are alike the similarity may be rounded above 1, which no power may blow up."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(40, 37)).astype(np.float32)
    for function in (
        lambda alpha: average_query_expansion(gallery, gallery, 3, alpha),
        lambda a: database_augmentation(np.repeat(gallery, 2, 0), 2, a),
    ):
        for alpha in (1e6, 1e300):
            found = function(alpha)
            assert np.isfinite(found).all()
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


def test_wrong_arguments():
    query, gallery = np.ones((2, 3)), np.ones((4, 3))
    for call, message in [
        (lambda: average_query_expansion(query, gallery, 5), "k must be at most the 4 gallery images, got 5"),
        (lambda: database_augmentation(gallery, 4), "at most the 3 gallery images beside the image itself, got 4"),
        (lambda: average_query_expansion(query, gallery, 0), "k must be a whole number of at least 1, got 0"),
        (lambda: average_query_expansion(query, gallery, 1, -1.0), "alpha must be a finite number of at least 0"),
        (lambda: database_augmentation(gallery, 1, "x"), "alpha must be a finite number of at least 0, got 'x'"),
        (lambda: database_augmentation(gallery, 1, math.nan), "alpha must be a finite number of at least 0"),
        (lambda: average_query_expansion(query, gallery[:, :2], 1), "query embeddings have 3 numbers, gallery"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()
    gallery[2] = 0
    with pytest.raises(NumericalError, match=r"gallery image 2 \(c\) is all zeros"):
        database_augmentation(gallery, 1, gallery_names=list("abcd"))
