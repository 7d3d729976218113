"""Digits: large logits, many classes, probabilities that vanish, against the definitions in float64."""

import pytest
import torch
from loss_cases import LOSSES, assert_within_the_bars, built, random_logits

pytestmark = built


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_small_and_large_logits(name, scale):
    assert_within_the_bars(name, *random_logits(6, 3000, scale=scale))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("place", [-1e4, 1e4])
def test_logits_far_from_zero_that_differ_little(name, place):
    """Their sum with log C would lose three digits in float32."""
    a, b = random_logits(6, 3000, scale=2.0)
    assert_within_the_bars(name, a + place, b + place)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0])
def test_a_hundred_thousand_classes(name, scale):
    assert_within_the_bars(name, *random_logits(2, 100_000, scale=scale))


@pytest.mark.parametrize("name", LOSSES)
def test_one_class_above_a_hundred_thousand_equal_ones(name):
    """Every rounding error of a term goes the same way."""
    for gap in (9.7, 11.3, 13.1):
        a = torch.full((2, 100_000), 0.3)
        a[0, 70_000] += gap
        a[1, 5] += gap
        assert_within_the_bars(name, a, a.flip(1))


@pytest.mark.parametrize("name", LOSSES)
def test_chunks_whose_largest_logits_differ_much(name):
    a, b = random_logits(3, 20_000)
    steps = torch.arange(20_000) // 4096 * 40.0
    assert_within_the_bars(name, a + steps, b - steps)
    assert_within_the_bars(name, a - steps, b - steps)
