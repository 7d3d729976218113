"""Long-tailed training sets: the published sizes, and which images stay."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data._long_tail import keep_long_tail, long_tail_counts
from reid_core.errors import UsageError


def counts(classes: int, images: int, kind: str, factor: float) -> list[int]:
    return long_tail_counts(np.full(classes, images, np.int64), kind, factor).tolist()


@pytest.mark.parametrize(
    ("classes", "images", "kind", "factor", "total"),
    [
        (100, 500, "exp", 0.1, 19_573),
        (100, 500, "exp", 0.02, 12_608),
        (100, 500, "exp", 0.01, 10_847),
        (100, 500, "exp", 0.005, 9_502),
        (100, 500, "step", 0.01, 25_250),
        (10, 5000, "exp", 0.1, 20_431),
        (10, 5000, "exp", 0.02, 13_996),
        (10, 5000, "exp", 0.01, 12_406),
        (10, 5000, "exp", 0.005, 11_203),
        (10, 5000, "step", 0.01, 25_250),
    ],
)
def test_published_totals(classes: int, images: int, kind: str, factor: float, total: int) -> None:
    assert sum(counts(classes, images, kind, factor)) == total


def test_by_hand() -> None:
    assert counts(10, 5000, "exp", 0.01) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert counts(5, 100, "step", 0.1) == [100, 100, 10, 10, 10]  # of an odd number, the larger part is small
    assert counts(2, 100, "exp", 0.29) == [100, 29]  # 100 * 0.29 falls a rounding error short of 29
    assert counts(3, 5, "exp", 0.01) == [5, 1, 1]  # 0.5 and 0.05: one image stays
    assert counts(1, 7, "exp", 0.5) == [7] and counts(1, 7, "step", 0.5) == [3]


def test_a_class_keeps_at_most_what_it_has_and_factor_one_keeps_all() -> None:
    uneven = np.array([3, 100, 40, 80], np.int64)
    assert long_tail_counts(uneven, "exp", 1.0).tolist() == uneven.tolist()
    assert long_tail_counts(uneven, "step", 1.0).tolist() == uneven.tolist()
    assert long_tail_counts(uneven, "step", 0.5).tolist() == [3, 100, 40, 50]


@given(st.integers(1, 30), st.integers(1, 200), st.sampled_from(["exp", "step"]), st.floats(1e-3, 1.0))
@settings(max_examples=200, deadline=None)
def test_equals_the_formula_class_by_class(classes: int, images: int, kind: str, factor: float) -> None:
    for c, count in enumerate(counts(classes, images, kind, factor)):
        if kind == "exp":
            share = factor ** (c / (classes - 1)) if classes > 1 else 1.0
        else:
            share = 1.0 if c < classes // 2 else factor
        assert count == max(1, math.floor(images * share + 1e-9))


LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 50)).astype(np.int64)


def test_which_images_stay() -> None:
    kept = keep_long_tail(LABELS, "exp", 0.1, seed=1)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert np.bincount(LABELS[kept]).tolist() == counts(6, 50, "exp", 0.1)
    np.testing.assert_array_equal(kept, keep_long_tail(LABELS, "exp", 0.1, seed=1))
    assert kept.tolist() != keep_long_tail(LABELS, "exp", 0.1, seed=2).tolist()
    assert set(kept) <= set(keep_long_tail(LABELS, "exp", 0.5, seed=1))
    np.testing.assert_array_equal(keep_long_tail(LABELS, "step", 1.0, seed=1), np.arange(300))


def test_every_image_of_a_class_has_its_chance() -> None:
    labels = np.repeat(np.arange(2), 4).astype(np.int64)
    last = [int(keep_long_tail(labels, "step", 0.25, seed)[-1]) for seed in range(400)]
    assert min(np.bincount(last)[4:]) > 60  # of 100 each; standard deviation 8.7


@pytest.mark.parametrize("factor", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_a_factor_outside_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match=r"--imbalance_factor must lie in \(0, 1\]"):
        long_tail_counts(np.array([5, 5]), "exp", factor)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="--imbalance must be exp or step, got 'linear'"):
        long_tail_counts(np.array([5, 5]), "linear", 0.5)
