"""Accuracy, recalls and their means: answers by hand, and a slow walk over the images as second opinion."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reid_core.errors import NumericalError, UsageError
from reid_core.metrics import classification_metrics


def scores_of(recalls, images=10):
    """One-hot scores and labels with exactly these recalls; wrong predictions fall on the next class."""
    num_classes, rows, labels = len(recalls), [], []
    for c, recall in enumerate(recalls):
        for i in range(images):
            rows.append(np.eye(num_classes)[c if i < round(recall * images) else (c + 1) % num_classes])
            labels.append(c)
    return np.array(rows), np.array(labels)


def test_means_of_the_recalls_by_hand():
    found = classification_metrics(*scores_of([0.9, 0.5, 0.1]))
    assert found.recall.tolist() == [0.9, 0.5, 0.1] and found.accuracy == 0.5 and found.balanced_accuracy == 0.5
    assert found.geometric_mean == pytest.approx(0.355689, abs=1e-6)
    assert found.harmonic_mean == pytest.approx(0.228814, abs=1e-6)
    assert found.lowest_recall == 0.1 and found.accuracy5 is None and found.absent == ()
    assert found.confusion.tolist() == [[9, 1, 0], [0, 5, 5], [9, 0, 1]] and found.confusion.dtype == np.int64


def test_a_class_never_recognised_makes_both_means_zero_unless_a_floor_is_given():
    scores = scores_of([0.9, 0.5, 0.1, 0.0])
    strict, floored = classification_metrics(*scores), classification_metrics(*scores, floor=1e-3)
    assert (strict.geometric_mean, strict.harmonic_mean, strict.lowest_recall) == (0.0, 0.0, 0.0)
    assert floored.geometric_mean == pytest.approx(0.081904, abs=1e-6)
    assert floored.harmonic_mean == pytest.approx(0.003948, abs=1e-6)
    assert floored.balanced_accuracy == strict.balanced_accuracy == 0.375 and floored.lowest_recall == 0


def test_balanced_accuracy_weighs_classes_alike():
    scores = np.eye(2)[[0] * 9 + [1] + [0]]
    found = classification_metrics(scores, [0] * 9 + [1] + [1])
    assert found.accuracy == pytest.approx(10 / 11) and found.balanced_accuracy == 0.75


def test_of_equal_scores_the_lowest_class_counts():
    found = classification_metrics(np.zeros((7, 7)), np.arange(7))
    assert found.recall.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert found.accuracy5 == pytest.approx(5 / 7)
    assert classification_metrics(np.zeros((5, 5)), np.arange(5)).accuracy5 == 1.0


def test_many_medium_few_at_their_bounds():
    scores = scores_of([0.1, 0.2, 0.3, 0.4])
    found = classification_metrics(*scores, train_counts=[101, 100, 20, 19])
    assert found.many == pytest.approx(0.1) and found.medium == pytest.approx(0.25) and found.few == pytest.approx(0.4)
    found = classification_metrics(*scores, train_counts=[101, 101, 101, 101])
    assert found.many == pytest.approx(0.25) and found.medium is None and found.few is None
    assert classification_metrics(*scores).many is None


def test_a_class_without_images_is_named_and_left_out():
    scores = np.eye(3)[[0, 0, 2, 1]]
    found = classification_metrics(scores, [0, 0, 2, 2], train_counts=[200, 200, 5])
    assert found.absent == (1,) and math.isnan(found.recall[1])
    assert found.balanced_accuracy == 0.75 and found.many == 1.0 and found.few == 0.5 and found.lowest_recall == 0.5
    body = found.to_json()
    assert body["recall"] == [1.0, None, 0.5] and body["absent_classes"] == [1] and body["num_test_images"] == 4
    assert body["confusion"] == [[0, 0, 2], [2, 1, 1], [2, 2, 1]]
    assert classification_metrics(scores[:2], [0, 0], train_counts=[200, 5, 5]).few is None


def slow(scores, labels):
    """By a walk over images and classes."""
    num_classes = len(scores[0])
    right, five, seen, hit = 0, 0, [0] * num_classes, [0] * num_classes
    for row, label in zip(scores, labels):
        order = sorted(range(num_classes), key=lambda c: (-row[c], c))
        right += order[0] == label
        five += label in order[:5]
        seen[label] += 1
        hit[label] += order[0] == label
    recalls = [h / s for h, s in zip(hit, seen) if s]
    product, inverse = 1.0, 0.0
    for recall in recalls:
        product *= recall
        inverse += 1 / recall if recall else math.inf
    return {
        "accuracy": right / len(labels),
        "accuracy5": five / len(labels) if num_classes >= 5 else None,
        "balanced_accuracy": sum(recalls) / len(recalls),
        "geometric_mean": product ** (1 / len(recalls)),
        "harmonic_mean": len(recalls) / inverse,
        "lowest_recall": min(recalls),
    }


tables = st.integers(1, 8).flatmap(
    lambda c: st.integers(1, 30).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.float64, (n, c), elements=st.integers(-3, 3).map(float)),  # few values, so that many tie
            hnp.arrays(np.int64, (n,), elements=st.integers(0, c - 1)),
        )
    )
)


@given(tables)
@settings(max_examples=200, deadline=None)
def test_equals_a_walk_over_the_images(case):
    scores, labels = case
    found = classification_metrics(scores, labels)
    for name, value in slow(scores.tolist(), labels.tolist()).items():
        assert getattr(found, name) == (None if value is None else pytest.approx(value)), name
    assert found.harmonic_mean <= found.geometric_mean + 1e-12 <= found.balanced_accuracy + 1e-9
    assert found.confusion.sum(axis=1).tolist() == np.bincount(labels, minlength=scores.shape[1]).tolist()


def test_renaming_the_classes_changes_nothing():
    rng = np.random.default_rng(0)
    scores, labels, order = rng.normal(size=(60, 6)), rng.integers(0, 6, 60), rng.permutation(6)
    one, other = (
        classification_metrics(scores, labels),
        classification_metrics(scores[:, order], order.argsort()[labels]),
    )
    for name in ("accuracy", "accuracy5", "balanced_accuracy", "geometric_mean", "harmonic_mean", "lowest_recall"):
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name


def test_scikit_learn_agrees():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(200, 7)), rng.integers(0, 7, 200)
    found = classification_metrics(scores, labels)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, scores.argmax(1)))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, scores.argmax(1)))
    assert found.accuracy5 == pytest.approx(metrics.top_k_accuracy_score(labels, scores, k=5))


def test_the_arrays_are_read_only():
    found = classification_metrics(np.eye(2), [0, 1])
    for values in (found.recall, found.confusion):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


@pytest.mark.parametrize(
    ("scores", "labels", "more", "message"),
    [
        (np.zeros(3), [0, 0, 0], {}, r"scores must be \(N, C\) floats"),
        (np.zeros((2, 2), int), [0, 0], {}, "floats"),
        (np.zeros((0, 2)), [], {}, "at least 1"),
        (np.zeros((2, 2)), [0], {}, r"labels must be \(2,\) integers"),
        (np.zeros((2, 2)), [0.0, 1.0], {}, "integers"),
        (np.zeros((2, 2)), [0, 2], {}, r"labels must lie in \[0, 2\), got 2 at row 1"),
        (np.zeros((2, 2)), [-1, 0], {}, "got -1 at row 0"),
        (np.zeros((2, 2)), [0, 1], {"train_counts": [1]}, r"train_counts must be \(2,\) integers"),
        (np.zeros((2, 2)), [0, 1], {"train_counts": {0: 1, 1: 2}}, "train_counts"),
        (np.zeros((2, 2)), [0, 1], {"floor": 1.0}, "floor"),
    ],
)
def test_what_does_not_fit_is_refused(scores, labels, more, message):
    with pytest.raises(UsageError, match=message):
        classification_metrics(scores, labels, **more)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_an_error(value):
    scores = np.zeros((3, 2))
    scores[1, 1] = value
    with pytest.raises(NumericalError, match="1 of 3 rows.*first is row 1"):
        classification_metrics(scores, [0, 1, 0])
