"""Symmetric and asymmetric noise: the matrices by hand, and labels that follow them."""

import numpy as np
import pytest
from scipy.stats import chi2

from reid_core.errors import UsageError
from reid_core.noise import asymmetric, symmetric
from reid_core.noise._transition import draw_labels

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def fits(labels, given, matrix):
    """Whether the flips of every class are those of its row, by a chi-squared test a class at a level of 1 in 10,000."""
    for c in range(len(matrix)):
        found = np.bincount(given[labels == c], minlength=len(matrix))
        if found[matrix[c] == 0].any():
            return False
        possible = matrix[c] > 0
        expected = matrix[c][possible] * found.sum()
        distance = ((found[possible] - expected) ** 2 / expected).sum()
        if distance > chi2.isf(1e-4, max(possible.sum() - 1, 1)):
            return False
    return True


def test_symmetric_matrix_by_hand():
    assert symmetric.transition_matrix(4, 0.3) == pytest.approx(np.full((4, 4), 0.1) + 0.6 * np.eye(4))
    assert symmetric.transition_matrix(100, 0.2)[3, 7] == pytest.approx(0.0020202, abs=1e-7)
    assert symmetric.transition_matrix(100, 0.8)[7, 3] == pytest.approx(0.0080808, abs=1e-7)
    np.testing.assert_array_equal(symmetric.transition_matrix(3, 0.0), np.eye(3))
    np.testing.assert_array_equal(symmetric.transition_matrix(1, 0.0), [[1.0]])
    np.testing.assert_array_equal(symmetric.transition_matrix(2, 1.0), [[0, 1], [1, 0]])


def test_asymmetric_matrix_by_hand():
    matrix = asymmetric.transition_matrix(asymmetric.targets_of("abcd"), 0.3)
    assert matrix == pytest.approx(np.array([[0.7, 0.3, 0, 0], [0, 0.7, 0.3, 0], [0, 0, 0.7, 0.3], [0.3, 0, 0, 0.7]]))
    pairs = asymmetric.transition_matrix(asymmetric.targets_of("abc", ["a=c"]), 0.4)
    assert pairs == pytest.approx(np.array([[0.6, 0, 0.4], [0, 1, 0], [0, 0, 1]]))


def test_published_pairs_of_cifar10():
    targets = asymmetric.targets_of(CIFAR10)
    changed = {CIFAR10[c]: CIFAR10[t] for c, t in enumerate(targets) if t != c}
    assert changed == {
        "truck": "automobile",
        "bird": "airplane",
        "deer": "horse",
        "cat": "dog",
        "dog": "cat",
    }
    shuffled = CIFAR10[::-1]
    assert [shuffled[t] for t in asymmetric.targets_of(shuffled)] == [CIFAR10[t] for t in targets][::-1]
    assert asymmetric.targets_of(CIFAR10[:9]).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0]  # other classes: each the next
    assert asymmetric.targets_of(CIFAR10, ["cat=frog"]).tolist() == [0, 1, 2, 6, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_labels_follow_the_matrix(ratio, seed):
    labels = np.random.default_rng(9).integers(0, 10, 30_000)
    cases = [
        (symmetric.corrupt(labels, ratio, seed), symmetric.transition_matrix(10, ratio)),
        (
            asymmetric.corrupt(labels, ratio, seed),
            asymmetric.transition_matrix((np.arange(10) + 1) % 10, ratio),
        ),
        (
            asymmetric.corrupt(labels, ratio, seed, class_names=CIFAR10),
            asymmetric.transition_matrix(asymmetric.targets_of(CIFAR10), ratio),
        ),
    ]
    for noisy, matrix in cases:
        assert matrix.sum(axis=1) == pytest.approx(np.ones(10)) and (matrix >= 0).all()
        assert fits(labels, noisy.given, matrix)
        assert not fits(labels, noisy.given, np.roll(matrix, 1, axis=1))
        np.testing.assert_array_equal(noisy.true, labels)
        np.testing.assert_array_equal(noisy.clean, noisy.given == labels)
    # The test can tell: noise of another ratio or kind does not fit.
    assert not fits(labels, cases[0][0].given, symmetric.transition_matrix(10, ratio * 0.8))
    assert not fits(labels, cases[0][0].given, cases[1][1])


def test_share_of_wrong_labels():
    labels = np.arange(50_000) % 100
    assert abs((symmetric.corrupt(labels, 0.2, 0).given != labels).mean() - 0.2) < 0.006


def test_no_ratio_no_change_and_all_of_it():
    labels = np.arange(50) % 5
    for kind in (symmetric, asymmetric):
        np.testing.assert_array_equal(kind.corrupt(labels, 0.0, 1).given, labels)
    np.testing.assert_array_equal(asymmetric.corrupt(labels, 1.0, 1).given, (labels + 1) % 5)
    assert (symmetric.corrupt(labels, 1.0, 1).given != labels).all()


def test_one_draw_an_image_in_order_and_nothing_global():
    labels = np.arange(200) % 4
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    first = symmetric.corrupt(labels, 0.5, 3)
    assert (np.random.get_state()[1] == state).all()
    assert (first.kind, first.ratio, first.seed) == ("symmetric", 0.5, 3)
    assert asymmetric.corrupt(labels, 0.5, 3).kind == "asymmetric"
    np.testing.assert_array_equal(symmetric.corrupt(labels[:70], 0.5, 3, num_classes=4).given, first.given[:70])
    assert (symmetric.corrupt(labels, 0.5, 4).given != first.given).any()


def test_a_class_without_images_can_be_drawn():
    given = symmetric.corrupt(np.zeros(3000, np.int64), 0.5, 1, num_classes=3).given
    assert set(given) == {0, 1, 2}


def test_what_has_no_probability_is_never_drawn():
    """Rows whose sum a rounding error keeps below 1, and uniform numbers at the very end of the range."""

    class Last:
        def random(self, size):
            return np.full(size, np.nextafter(1.0, 0.0))

    matrix = np.array([[0.1] * 3 + [0.7 - 1e-12, 0.0], *np.eye(5)[1:]])
    real, np.random.default_rng = np.random.default_rng, lambda seed: Last()
    try:
        assert draw_labels(np.zeros(4, np.int64), matrix, 1).tolist() == [3] * 4
    finally:
        np.random.default_rng = real


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_is_refused(ratio):
    for kind in (symmetric, asymmetric):
        with pytest.raises(UsageError, match=r"--noise_ratio must lie in \[0, 1\]"):
            kind.corrupt(np.arange(4), ratio, 1)


def test_a_single_class_has_no_other_label():
    for kind in (symmetric, asymmetric):
        with pytest.raises(UsageError, match="single class"):
            kind.corrupt(np.zeros(4, np.int64), 0.5, 1)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["a"], "FROM=TO"),
        (["a=a"], "two different"),
        (["cat=dig"], "Did you mean 'dog'"),
        (["cat=dog", "cat=a"], "'cat' is taken for 'dog' and for 'a'"),
    ],
)
def test_pairs_that_cannot_be_meant(pairs, message):
    with pytest.raises(UsageError, match=message):
        asymmetric.targets_of(["a", "cat", "dog"], pairs)


def test_names_may_hold_the_sign():
    assert asymmetric.targets_of(["a", "a=b", "b"], ["a=b=b"]).tolist() == [0, 2, 2]
    with pytest.raises(UsageError, match="FROM=TO"):  # a=b for c, or a for b=c?
        asymmetric.targets_of(["a", "b=c", "a=b", "c"], ["a=b=c"])
