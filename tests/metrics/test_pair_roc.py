"""ROC of pairs: by hand, against counting every threshold, ties, streams, and scikit-learn where it is installed."""

import numpy as np
import pytest

import reid_core.metrics.roc as roc
from reid_core.errors import DataError, NumericalError, UsageError
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.roc import pair_roc, pair_roc_from_embeddings


def slow_pairs(distances, q_pids, g_pids, q_camids, g_camids, any_camera):
    """Distances of matches and of non-matches, a pair at a time."""
    match, other = [], []
    for i, row in enumerate(distances):
        for j, distance in enumerate(row):
            if -1 in (q_pids[i], g_pids[j]):
                continue
            if q_pids[i] != g_pids[j]:
                other.append(distance)
            elif any_camera or q_camids[i] != g_camids[j]:
                match.append(distance)
    return match, other


def slow_tpr_at(match, other, fpr):
    """The best of all thresholds that accept few enough non-matches."""
    best = 0.0
    for threshold in {*match, *other}:
        if sum(d <= threshold for d in other) / len(other) <= fpr:
            best = max(best, sum(d <= threshold for d in match) / len(match))
    return best


def problem(seed, levels=None):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 8)), int(rng.integers(2, 40))
    distances = rng.random((rows, columns)) if levels is None else rng.integers(0, levels, (rows, columns)) / 8
    ids = rng.integers(-1, 4, rows), rng.integers(-1, 4, columns), rng.integers(0, 2, rows), rng.integers(0, 2, columns)
    return distances.astype(rng.choice([np.float32, np.float64])), *ids


def test_by_hand():
    #            match  camera  other  other  junk   match
    distances = [[0.3, 0.01, 0.2, 0.5, 0.0, 0.6]]
    found = pair_roc(distances, [7], [7, 7, 8, 9, -1, 7], [0], [1, 0, 0, 1, 1, 2])
    assert found.thresholds.tolist() == [0.3, 0.6]
    assert found.tpr.tolist() == [0.5, 1.0] and found.fpr.tolist() == [0.5, 1.0]
    assert (found.num_matches, found.num_non_matches, found.num_dropped, found.num_junk) == (2, 2, 1, 1)
    assert [found.tpr_at(f) for f in (0, 0.49, 0.5, 0.99, 1)] == [0, 0, 0.5, 0.5, 1]
    anywhere = pair_roc(distances, [7], [7, 7, 8, 9, -1, 7], [0], [1, 0, 0, 1, 1, 2], protocol="any-camera")
    assert anywhere.thresholds.tolist() == [0.01, 0.3, 0.6] and anywhere.num_dropped == 0
    assert anywhere.tpr_at(0) == 1 / 3
    body = found.to_json([0.5, 1e-4])
    assert body == {"tpr_at_fpr": {"0.5": 0.5, "0.0001": 0.0}, "num_matches": 2, "num_non_matches": 2}


def test_equal_distances_accept_both():
    assert pair_roc([[1.0, 1.0, 2.0]], [1], [1, 2, 1], [0], [1, 1, 1]).tpr_at(0.5) == 0
    collapsed = pair_roc(np.zeros((3, 9)), [1, 2, 3], [1, 2, 3] * 3, [0] * 3, [1] * 9)
    assert (collapsed.tpr_at(0.999), collapsed.tpr_at(1)) == (0, 1)


@pytest.mark.parametrize("levels", [None, 2, 9])
@pytest.mark.parametrize("seed", range(40))
def test_against_every_threshold(seed, levels, monkeypatch):
    monkeypatch.setattr(roc, "_CELLS", 20)
    table = problem(seed, levels)
    any_camera = bool(seed % 2)
    match, other = slow_pairs(*table, any_camera)
    protocol = "any-camera" if any_camera else "market1501"
    if not match or not other:
        with pytest.raises(DataError, match=f"{len(match)} matches and {len(other)} non-matches"):
            pair_roc(*table, protocol=protocol)
        return
    found = pair_roc(*table, protocol=protocol)
    assert (found.num_matches, found.num_non_matches) == (len(match), len(other))
    for fpr in (0, 1e-4, 0.05, 0.1, 0.3, 0.5, 0.9, 1):
        assert found.tpr_at(fpr) == slow_tpr_at(match, other, fpr)
    for threshold, tpr, fpr in zip(found.thresholds, found.tpr, found.fpr):
        assert tpr == sum(d <= threshold for d in match) / len(match)
        assert fpr == sum(d <= threshold for d in other) / len(other)
    assert (np.diff(found.tpr) > 0).all() and (np.diff(found.fpr) >= 0).all()
    np.testing.assert_array_equal(
        pair_roc(lambda: [table[0][:1], table[0][1:]], *table[1:], protocol=protocol).fpr, found.fpr
    )


def test_embeddings_give_what_their_matrix_gives():
    rng = np.random.default_rng(3)
    # Signs: all products are exact, whatever computes them.
    query, gallery = rng.choice([-1.0, 1.0], (600, 16)), rng.choice([-1.0, 1.0], (1100, 16))
    ids = rng.integers(-1, 30, 600), rng.integers(-1, 30, 1100), rng.integers(0, 3, 600), rng.integers(0, 3, 1100)
    calls = []
    found = pair_roc_from_embeddings(query, gallery, *ids, progress=lambda *call: calls.append(call))
    expected = pair_roc(distance_matrix(query, gallery), *ids)
    for name in ("thresholds", "tpr", "fpr"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert calls[-1] == (2 * 600 * 1100,) * 2 and len(calls) == 12


def test_copies_are_tied_in_every_tile():
    """A match and a non-match with one embedding: never told apart, wherever they stand."""
    rng = np.random.default_rng(4)
    query, gallery = rng.normal(size=(1, 40)), rng.normal(size=(1000, 40))
    gallery[[5, 700]] = query[0] + 0.1 * rng.normal(size=40)
    pids = np.full(1000, 2)
    pids[700] = 1
    found = pair_roc_from_embeddings(query, gallery, [1], pids, [0], np.ones(1000, int))
    assert found.fpr.tolist() == [1 / 999]


def test_second_opinion_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    for seed in range(20):
        table = problem(seed, 9)
        match, other = slow_pairs(*table, False)
        if not match or not other:
            continue
        truth, score = [1] * len(match) + [0] * len(other), [-d for d in match + other]
        fpr, tpr, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
        found = pair_roc(*table)
        for value in (0, 0.01, 0.1, 0.5):
            assert found.tpr_at(value) == pytest.approx(tpr[fpr <= value].max(), abs=1e-12)


def test_wrong_input():
    good = (np.zeros((2, 3)), [1, 2], [1, 2, 3], [0, 0], [1, 1, 1])
    nan = np.zeros((2, 3))
    nan[1, 2] = np.nan

    def too_many():
        yield from (np.zeros((2, 3)), np.zeros((1, 3)))
        raise AssertionError("the second was too much")

    for value, word in ((np.inf, "infinite"), (-np.inf, "minus infinity")):
        with pytest.raises(NumericalError, match=rf"distmat\[1, 2\] is {word}"):
            pair_roc(np.where(np.isnan(nan), value, nan), *good[1:])
    with pytest.raises(NumericalError, match=r"distmat\[1, 2\] is NaN"):
        pair_roc(nan, *good[1:])
    with pytest.raises(NumericalError, match=r"distmat\[1, 2\] is NaN"):
        pair_roc(lambda: [nan[:1], nan[1:]], *good[1:])
    for position, wrong, message in [
        (0, np.zeros((3, 2)), r"distances must be \(2, 3\) like the pids, got \(3, 2\)"),
        (0, lambda: [np.zeros((1, 3))], "one row for each of the 2 queries"),
        (0, lambda: [np.zeros((2, 3)), np.zeros((1, 3))], "one row for each of the 2 queries"),
        (0, too_many, "one row for each of the 2 queries"),
        (0, lambda: [np.zeros((2, 4))], r"3 columns like g_pids, got float64 \(2, 4\)"),
        (0, np.zeros((2, 3), complex), "distances must be real"),
        (0, np.full((2, 3), 2**53 + 2), "beyond 2"),
        (0, [[1, 2, 3], [4]], "distances cannot be read as an array"),
        (1, [[1], [2, 3]], "q_pids cannot be read as an array"),
        (1, [1.0, 2.0], "q_pids must be whole numbers"),
        (1, np.array([1, 2**64 - 1], np.uint64), "q_pids holds 18446744073709551615, beyond 64-bit"),
        (4, [1, 1], "g_camids has 2 entries and g_pids 3"),
    ]:
        table = [*good]
        table[position] = wrong
        with pytest.raises(UsageError, match=message):
            pair_roc(*table)
    found = pair_roc([[1.0, 2.0]], [1], [1, 2], [0], [1, 1])
    for wrong in (np.nan, -0.1, 1.5, "x", None):
        with pytest.raises(UsageError, match=r"fpr must be a number in \[0, 1\]"):
            found.tpr_at(wrong)
    with pytest.raises(UsageError, match="unknown protocol 'market'"):
        pair_roc(*good, protocol="market")
    with pytest.raises(UsageError, match="there are 2 gallery embeddings, but 3 pids"):
        pair_roc_from_embeddings(np.ones((2, 4)), np.ones((2, 4)), *good[1:])
    with pytest.raises(UsageError, match="query embeddings have 4 numbers, gallery embeddings 5"):
        pair_roc_from_embeddings(np.ones((2, 4)), np.ones((3, 5)), *good[1:])
