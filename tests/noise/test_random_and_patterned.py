"""Label noise: exact counts, uniform draws, its own seed, and nothing global touched."""

import random

import numpy as np
import pytest

from reid_core.errors import DataError, UsageError
from reid_core.noise import patterned
from reid_core.noise.random import corrupt

LABELS = np.repeat(np.arange(20), np.arange(5, 25)).astype(np.int64)


@pytest.mark.parametrize(
    ("count", "ratio", "wrong"), [(17, 0.2, 3), (10, 0.25, 2), (5, 0.1, 0), (6, 0.25, 2), (4, 1.0, 4)]
)
def test_hand_counts(count, ratio, wrong):
    labels = np.array([0] * count + [1] * 40, np.int64)
    noisy = corrupt(labels, ratio, seed=1)
    assert (noisy.given[:count] != 0).sum() == wrong


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("seed", [1, 7])
def test_every_class_gets_its_exact_count(ratio, seed):
    noisy = corrupt(LABELS, ratio, seed)
    for c in range(20):
        members = LABELS == c
        assert (noisy.given[members] != c).sum() == round(members.sum() * ratio)  # Python rounds half to even too
    np.testing.assert_array_equal(noisy.clean, noisy.given == LABELS)
    assert noisy.given.min() >= 0 and noisy.given.max() < 20


def test_zero_ratio_changes_nothing():
    noisy = corrupt(LABELS, 0.0, 1)
    np.testing.assert_array_equal(noisy.given, LABELS)
    assert noisy.clean.all()


def test_depends_on_its_arguments_alone():
    first = corrupt(LABELS, 0.3, 1).given
    random.seed(99)
    np.random.seed(99)
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()
    np.testing.assert_array_equal(corrupt(LABELS, 0.3, 1).given, first)
    assert random.getstate() == state and (np.random.get_state()[1] == numpy_state).all()
    assert (corrupt(LABELS, 0.3, 2).given != first).any()


def test_the_seed_decides_which_images_and_which_labels():
    one, two = corrupt(LABELS, 0.3, 1), corrupt(LABELS, 0.3, 2)
    assert (one.clean != two.clean).any()
    alone = np.arange(30)  # one image an identity, all of them chosen, in one order: only the draws can differ
    assert (corrupt(alone, 1.0, 1).given != corrupt(alone, 1.0, 2).given).any()


def test_new_labels_are_uniform_over_the_other_classes():
    labels = np.repeat(np.arange(4), 3000).astype(np.int64)
    given = corrupt(labels, 1.0, 3).given
    for c in range(4):
        counts = np.bincount(given[labels == c], minlength=4)
        assert counts[c] == 0
        # 1,000 expected in each of three classes; 150 is over five standard deviations.
        assert (abs(np.delete(counts, c) - 1000) < 150).all()


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_ratio_outside_the_unit_interval(ratio):
    with pytest.raises(UsageError, match="noise_ratio"):
        corrupt(LABELS, ratio, 1)


def test_a_single_class_has_no_other_label():
    with pytest.raises(UsageError, match="single identity"):
        corrupt(np.zeros(10, np.int64), 0.5, 1)


def test_patterned_gives_the_second_label_to_the_same_images():
    second = (LABELS + 1 + np.arange(len(LABELS)) % 3) % 20
    noisy = patterned.corrupt(LABELS, 0.3, 1, second_labels=second)
    changed = ~noisy.clean
    np.testing.assert_array_equal(noisy.given[changed], second[changed])
    np.testing.assert_array_equal(changed, ~corrupt(LABELS, 0.3, 1).clean)


def test_second_labels_from_logits():
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 5.0, 5.0]])
    np.testing.assert_array_equal(patterned.second_labels(logits, np.array([0, 1, 0])), [1, 0, 1])


def test_second_labels_that_do_not_fit():
    labels = np.array([0, 1, 2], np.int64)
    with pytest.raises(DataError, match="row 1 has 1 twice"):
        patterned.corrupt(labels, 0.5, 1, second_labels=np.array([1, 1, 0]))
    with pytest.raises(DataError, match="integers"):
        patterned.corrupt(labels, 0.5, 1, second_labels=np.array([1.0, 2.0, 0.0]))
    with pytest.raises(DataError, match=r"\[0, 3\)"):
        patterned.corrupt(labels, 0.5, 1, second_labels=np.array([1, 2, 7]))
