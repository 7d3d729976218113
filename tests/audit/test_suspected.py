"""Suspected labels by hand, and on planted wrong ones."""

import numpy as np
import pytest

from reid_core.audit.suspected import suspected_labels

GIVEN = np.array([0, 1, 2, 2])


def epoch(predictions, confidence):
    return {"prediction": np.array(predictions), "confidence": np.array(confidence, np.float32)}


def test_scores_by_hand():
    first = epoch([[0, 2, 2, 1], [0, 2, 1, 1]], [[1, 0.8, 1, 1], [1, 0.9, 1, 1]])
    second = epoch([[0, 2, 2, 1], [0, 1, 2, -1]], [[1, 0.9, 1, 1], [1, 0.2, 1, np.nan]])
    found = suspected_labels(GIVEN, [first, second])
    # Sample 3: three votes of confidence 1 for class 1, one not visited: 0.75. Sample 1: (0.8+0.9+0.9-0.2)/4 = 0.6.
    assert [(s.index, s.given, s.suggestion) for s in found] == [(3, 2, 1), (1, 1, 2)]
    assert [s.score for s in found] == pytest.approx([0.75, 0.6])


def test_nothing_is_suspected_where_predictions_are_the_labels():
    assert suspected_labels(GIVEN, [epoch([GIVEN, GIVEN], np.ones((2, 4)))]) == []


def test_unsure_or_divided_networks_suspect_nothing():
    assert suspected_labels(GIVEN, [epoch([[1, 1, 1, 1], [2, 2, 0, 0]], np.full((2, 4), 0.9))]) == []
    assert suspected_labels(GIVEN, [epoch([[1, 0, 0, 0]] * 2, np.full((2, 4), 0.4))]) == []


def test_planted_wrong_labels_come_first():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 10, 500)
    given = true.copy()
    wrong = rng.choice(500, 100, replace=False)
    given[wrong] = (given[wrong] + 1) % 10
    trust = rng.uniform(0.7, 1.0, (2, 500))
    found = suspected_labels(given, [epoch([true, true], trust)])
    assert {s.index for s in found} == set(wrong)
    assert all(s.suggestion == true[s.index] for s in found)
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
